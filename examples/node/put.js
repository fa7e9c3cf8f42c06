// Puts a greeting: node examples/node/put.js [PORT]
const socket = require("net").connect(process.argv[2] ?? 30008, "127.0.0.1");
socket.end(JSON.stringify({ action: "put", topic: "greetings", message: "Hello from Node!" }));
