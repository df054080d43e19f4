"""Answers HTTP requests: the event describes the request, the returned dict the response."""

import json


def handler(event, context):
    method = event["requestContext"]["http"]["method"]
    query = event.get("queryStringParameters") or {}
    if method not in ("GET", "HEAD"):
        return {"statusCode": 405, "headers": {"allow": "GET, HEAD"}, "body": "only GET here\n"}
    name = query.get("name", "world")
    return {
        "statusCode": 200,
        "headers": {"content-type": "application/json"},
        "body": json.dumps({"message": f"Hello, {name}!", "path": event["rawPath"]}),
    }
