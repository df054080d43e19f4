"""Answers HTTP requests: the event describes the request, the returned dict the response.

`fuyun invoke` passes its JSON as the event: `-d '{"queryStringParameters": {"name": "Ada"}}'`. What it leaves out is
taken for a GET of the function's own path.
"""

import json


def handler(event, context):
    method = event.get("requestContext", {}).get("http", {}).get("method", "GET")
    query = event.get("queryStringParameters") or {}
    if method not in ("GET", "HEAD"):
        return {"statusCode": 405, "headers": {"allow": "GET, HEAD"}, "body": "only GET here\n"}
    name = query.get("name", "world")
    return {
        "statusCode": 200,
        "headers": {"content-type": "application/json"},
        "body": json.dumps({"message": f"Hello, {name}!", "path": event.get("rawPath", "/")}),
    }
