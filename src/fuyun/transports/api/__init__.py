"""The control API under `/v1`: one small file per noun, one declarative table for routing and for OpenAPI alike.

`table` says what an endpoint is, `dispatch` turns rows into ASGI, `openapi` turns the same rows into a document,
`app` puts them together and `server` listens. The other files are nouns: what they list in `ENDPOINTS` is served.
"""
