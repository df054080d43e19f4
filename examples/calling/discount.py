"""The discount that a total earns."""


def handler(event, context):
    return {"percent": 10 if event["total"] >= 50 else 0}
