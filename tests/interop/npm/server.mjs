// npm `ws`: sends messages back, refuses without a token, closes on demand.
import { createRequire } from 'node:module';
import { createServer } from 'node:http';

const [modules, port] = process.argv.slice(2);
const { WebSocketServer } = createRequire(`${modules}/x.js`)('ws');
const http = createServer();
const server = new WebSocketServer({ noServer: true });
http.on('upgrade', (request, socket, head) => {
  if (request.headers.authorization !== 'Bearer good') {
    socket.end('HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n');
    return;
  }
  server.handleUpgrade(request, socket, head, (link) => {
    link.on('message', (data, binary) => {
      const text = binary ? '' : data.toString();
      if (text.startsWith('close ')) link.close(Number(text.split(' ')[1]), 'as you wish');
      else link.send(data, { binary });
    });
  });
});
http.listen(Number(port), '127.0.0.1');
