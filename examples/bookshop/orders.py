"""Takes orders: FastAPI and asyncpg, beside the data API."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from fastapi import FastAPI, HTTPException, status
from pydantic import BaseModel, Field


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=0, max_size=10, timeout=5) as pool:
        app.state.pool = pool
        yield


app = FastAPI(title="orders", description=__doc__, lifespan=lifespan)


class Order(BaseModel):
    book: int
    copies: int = Field(default=1, ge=1, le=100)


class Placed(BaseModel):
    order: int
    left: int


@app.get("/health")
async def health() -> dict[str, str]:
    """The health check: the balancer sends requests only while it succeeds."""
    async with app.state.pool.acquire(timeout=5) as connection:
        await connection.execute("select 1")
    return {"status": "ok"}


@app.post("/orders", status_code=status.HTTP_201_CREATED)
async def place(order: Order) -> Placed:
    """Takes the copies from the stock, or none if there are not enough."""
    async with app.state.pool.acquire(timeout=5) as connection, connection.transaction():
        left = await connection.fetchval(
            "update orders.stock set copies = copies - $2 where book = $1 and copies >= $2 returning copies",
            order.book,
            order.copies,
        )
        if left is None:
            raise HTTPException(status.HTTP_409_CONFLICT, "there are not enough copies")
        number = await connection.fetchval(
            "insert into orders.placed (book, copies) values ($1, $2) returning id", order.book, order.copies
        )
    return Placed(order=number, left=left)
