const http = require("node:http");
const knex = require("knex")(require("./knexfile"));

http
  .createServer(async (request, response) => {
    try {
      const rows = await knex("tea").insert({ name: request.url.slice(1) }).returning(["id", "name"]);
      response.end(JSON.stringify(rows));
    } catch (error) {
      response.statusCode = 500;
      response.end(error.message);
    }
  })
  .listen(process.env.PORT, process.env.HOST);
