"""What an item costs; raises KeyError for one that is not sold."""

PRICES = {"tea": 4.5, "pot": 30.0, "cup": 6.25}


def handler(event, context):
    return {"item": event["item"], "price": PRICES[event["item"]]}
