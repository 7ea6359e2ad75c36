exports.up = (knex) => knex.schema.createTable("tea", (table) => {
  table.increments();
  table.text("name").notNullable();
});
exports.down = (knex) => knex.schema.dropTable("tea");
