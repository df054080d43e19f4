"""Gets a JSON event, returns a value that becomes JSON."""


def handler(event, context):
    name = event.get("name", "world")
    print(f"greeting {name}")  # shown by: fuyun logs {{name}}
    return {"message": f"Hello, {name}!", "request": context.request_id}
