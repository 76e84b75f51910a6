// One hocuspocus server: `node server.js PORT REDIS_PORT NAME`. Nothing is stored.
import { Redis } from "@hocuspocus/extension-redis";
import { Server } from "@hocuspocus/server";

const [port, redisPort, name] = process.argv.slice(2);

const server = new Server({
  address: "127.0.0.1",
  port: Number(port),
  quiet: true,
  extensions: [new Redis({ host: "127.0.0.1", port: Number(redisPort), identifier: name })],
});
await server.listen();
