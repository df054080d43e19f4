"""Says hello: as the answer to `fuyun invoke` and to an HTTP request."""


def handler(event, context):
    name = event.get("name") or event.get("queryStringParameters", {}).get("name") or "world"
    print(f"greeting {name}")
    return {"hello": name, "request": context.request_id}
