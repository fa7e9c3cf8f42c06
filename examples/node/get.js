// Waits for a greeting and prints it: node examples/node/get.js [PORT]
const socket = require("net").connect(process.argv[2] ?? 30008, "127.0.0.1");
socket.write(JSON.stringify({ action: "get", topic: "greetings", wait: 60 }));
let text = "";
socket.setEncoding("utf8").on("data", (piece) => {
  text += piece;
  try {
    console.log(JSON.parse(text).message);
    socket.end();
  } catch {
    // There is more to come.
  }
});
