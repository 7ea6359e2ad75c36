"""What the data API is held against: FastAPI and asyncpg, written as one would for speed.

One pool per worker, one statement per request, prepared by asyncpg; JSON is made by PostgreSQL where rows are nested.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

import asyncpg
from fastapi import FastAPI, HTTPException, Response
from pydantic import BaseModel


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=5, max_size=10) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan)


class Item(BaseModel):
    id: int
    category_id: int
    name: str
    price: Decimal
    in_stock: bool


class Visit(BaseModel):
    item_id: int
    note: str


@app.get("/health")
async def health() -> str:
    return "ok"


@app.get("/item/{id}")
async def item(id: int) -> Item:
    row = await app.state.pool.fetchrow("select * from item where id = $1", id)
    if row is None:
        raise HTTPException(404)
    return Item.model_construct(**row)


@app.get("/category/{id}/items")
async def items(id: int) -> list[Item]:
    rows = await app.state.pool.fetch(
        "select * from item where category_id = $1 order by price desc limit 100", id
    )
    return [Item.model_construct(**row) for row in rows]


@app.get("/customer/{id}")
async def customer(id: int) -> Response:
    body = await app.state.pool.fetchval(
        """select json_build_object('id', c.id, 'name', c.name, 'purchase', (
               select json_agg(json_build_object('id', p.id, 'placed_at', p.placed_at, 'line', (
                   select json_agg(json_build_object('item_id', l.item_id, 'amount', l.amount))
                   from line l where l.purchase_id = p.id)))
               from purchase p where p.customer_id = c.id))::text
           from customer c where c.id = $1""",
        id,
    )
    if body is None:
        raise HTTPException(404)
    return Response(body, media_type="application/json")


@app.post("/visit", status_code=201)
async def visit(visit: Visit) -> None:
    await app.state.pool.execute("insert into visit (item_id, note) values ($1, $2)", visit.item_id, visit.note)
