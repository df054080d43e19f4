"""Converts temperatures and streams a countdown: validation, JSON and a streamed answer from one ASGI application."""

import asyncio
from collections.abc import AsyncIterator
from typing import Literal

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

app = FastAPI(title="Weather")


class Reading(BaseModel):
    """A temperature. `celsius` cannot be below absolute zero."""

    station: str = Field(min_length=1, max_length=40)
    celsius: float = Field(ge=-273.15)


@app.post("/convert")
async def convert(reading: Reading, to: Literal["kelvin", "fahrenheit"] = "kelvin") -> dict[str, object]:
    value = reading.celsius + 273.15 if to == "kelvin" else reading.celsius * 9 / 5 + 32
    return {"station": reading.station, to: round(value, 2)}


@app.get("/countdown/{start}")
async def countdown(start: int, pause_ms: int = 50) -> StreamingResponse:
    async def numbers() -> AsyncIterator[str]:
        for number in range(min(start, 100), 0, -1):
            yield f"{number}\n"
            await asyncio.sleep(min(pause_ms, 1000) / 1000)

    return StreamingResponse(numbers(), media_type="text/plain")
