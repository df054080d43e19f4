"""An ordinary FastAPI application; nothing in it knows about Fuyun."""

from fastapi import FastAPI

app = FastAPI(title="{{name}}")


@app.get("/")
async def index(name: str = "world") -> dict[str, str]:
    return {"message": f"Hello, {name}!"}


@app.get("/items/{item_id}")
async def item(item_id: int) -> dict[str, int]:
    return {"item": item_id}
