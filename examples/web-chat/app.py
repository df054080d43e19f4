"""A chat room. Everyone who is connected gets what anyone says."""

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import HTMLResponse

PAGE = """<!doctype html>
<title>Chat</title>
<ul id="said"></ul>
<form onsubmit="room.send(words.value); words.value = ''; return false"><input id="words" autofocus></form>
<script>
  const base = location.href.replace(/^http/, "ws").replace(/[^/]*$/, "");
  const room = new WebSocket(base + "rooms/lobby?name=" + encodeURIComponent(prompt("Your name?") || "somebody"));
  room.onmessage = (event) => said.append(Object.assign(document.createElement("li"), {textContent: event.data}));
</script>
"""

app = FastAPI(title="Chat")
rooms: dict[str, set[WebSocket]] = {}


@app.get("/")
async def page() -> HTMLResponse:
    return HTMLResponse(PAGE)


@app.get("/healthz")
async def healthz() -> dict[str, int]:
    return {"rooms": len(rooms)}


@app.websocket("/rooms/{room}")
async def talk(socket: WebSocket, room: str, name: str = "somebody") -> None:
    await socket.accept()
    members = rooms.setdefault(room, set())
    members.add(socket)
    try:
        while True:
            text = await socket.receive_text()
            for member in list(members):
                await member.send_text(f"{name}: {text}")
    except WebSocketDisconnect:
        pass
    finally:
        members.discard(socket)
        if not members:
            rooms.pop(room, None)
