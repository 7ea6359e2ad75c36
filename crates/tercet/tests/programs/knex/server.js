const http = require("node:http");
const knex = require("knex")(require("./knexfile"));

const server = http.createServer(async (request, response) => {
  if (request.url === "/health") {
    return response.end("ok");
  }
  try {
    const rows = await knex("tea").insert({ name: request.url.slice(1) }).returning(["id", "name"]);
    response.end(JSON.stringify(rows));
  } catch (error) {
    response.statusCode = 500;
    response.end(error.message);
  }
});
server.listen(process.env.PORT, process.env.HOST);

// Requests in flight are finished first.
process.on("SIGTERM", () => server.close(() => knex.destroy()));
