"""Is told by a rule of the bus `pictures` of each thumbnail that was made."""


def handler(event, context):
    made = event["data"]
    print(f"there is a thumbnail of {made['of']}: {made['key']}, {made['width']} x {made['height']}")
