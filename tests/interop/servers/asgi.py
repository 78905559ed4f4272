"""An ASGI application that sends messages back, refuses without a token, and closes on demand."""

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect


async def echo(socket: WebSocket) -> None:
    if socket.headers.get("authorization") != "Bearer good":
        await socket.close()
        return
    await socket.accept()
    try:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            # Of a message's two fields the one that is not used may be None or missing.
            if (message.get("text") or "").startswith("close "):
                await socket.close(int(message["text"].split()[1]), "as you wish")
                return
            if message.get("bytes") is not None:
                await socket.send_bytes(message["bytes"])
            else:
                await socket.send_text(message["text"])
    except WebSocketDisconnect:
        return


app = Starlette(routes=[WebSocketRoute("/ws", echo)])
