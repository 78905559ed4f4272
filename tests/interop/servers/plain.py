"""The same server on websockets, aiohttp and Tornado: `python plain.py websockets PORT [HOST]`."""

import asyncio
import sys
from http import HTTPStatus


async def on_websockets(port: int, host: str) -> None:
    from websockets.asyncio.server import serve

    def check(connection, request):
        if request.headers.get("Authorization") != "Bearer good":
            return connection.respond(HTTPStatus.UNAUTHORIZED, "who are you?\n")
        return None

    async def echo(socket):
        async for message in socket:
            if isinstance(message, str) and message.startswith("close "):
                await socket.close(int(message.split()[1]), "as you wish")
                return
            await socket.send(message)

    async with serve(echo, host, port, process_request=check, max_size=2**24):
        await asyncio.get_running_loop().create_future()


async def on_aiohttp(port: int, host: str) -> None:
    from aiohttp import WSMsgType, web

    async def echo(request):
        if request.headers.get("Authorization") != "Bearer good":
            raise web.HTTPUnauthorized
        socket = web.WebSocketResponse(max_msg_size=2**24)
        await socket.prepare(request)
        async for message in socket:
            if message.type == WSMsgType.TEXT and message.data.startswith("close "):
                await socket.close(code=int(message.data.split()[1]), message=b"as you wish")
            elif message.type == WSMsgType.TEXT:
                await socket.send_str(message.data)
            elif message.type == WSMsgType.BINARY:
                await socket.send_bytes(message.data)
        return socket

    app = web.Application()
    app.router.add_get("/ws", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    await asyncio.get_running_loop().create_future()


async def on_tornado(port: int, host: str) -> None:
    import tornado.web
    import tornado.websocket

    class Echo(tornado.websocket.WebSocketHandler):
        def prepare(self):
            if self.request.headers.get("Authorization") != "Bearer good":
                raise tornado.web.HTTPError(401)

        def on_message(self, message):
            if isinstance(message, str) and message.startswith("close "):
                self.close(int(message.split()[1]), "as you wish")
            else:
                self.write_message(message, binary=isinstance(message, bytes))

    app = tornado.web.Application([("/ws", Echo)], websocket_max_message_size=2**24)
    app.listen(port, host)
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    name, number, *where = sys.argv[1:]
    asyncio.run(globals()[f"on_{name}"](int(number), where[0] if where else "127.0.0.1"))
