"""Prices an order: asks one function for each item, another for the discount."""

from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

from fuyun.sdk import CallFailed, call


def handler(event, context):
    items = event["items"]
    with ThreadPoolExecutor(4) as threads:
        # Each thread works in a copy of the invocation's context, which is where `call` finds the credential.
        asked = [threads.submit(copy_context().run, call, "price", {"item": item}) for item in items]
    total = 0.0
    unknown = []
    for item, answer in zip(items, asked):
        try:
            total += answer.result()["price"] * items[item]
        except CallFailed:
            unknown.append(item)
    percent = call("discount", {"total": total})["percent"]
    return {"total": round(total * (100 - percent) / 100, 2), "percent": percent, "unknown": unknown}
