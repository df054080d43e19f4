// An Express application as its authors' guide shows one: nothing here knows where it runs.
const express = require("express");

const app = express();
app.use(express.json());

const carts = new Map();

app.get("/", (request, response) => response.send("shop"));

app.post("/carts/:id", (request, response) => {
  const cart = [...(carts.get(request.params.id) ?? []), request.body];
  carts.set(request.params.id, cart);
  response.status(201).json(cart);
});

app.get("/prices", (request, response) => {
  response.set({ "Content-Type": "text/event-stream", "Cache-Control": "no-cache" });
  let number = 0;
  const timer = setInterval(() => {
    response.write(`data: ${number}\n\n`);
    if (++number === 5) {
      clearInterval(timer);
      response.end();
    }
  }, 20);
  request.on("close", () => clearInterval(timer));
});

app.get("/boom", () => {
  throw new Error("out of stock");
});

app.listen(process.env.PORT, () => console.log(`listening on ${process.env.PORT}`));
