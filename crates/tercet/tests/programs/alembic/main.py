"""Books, through FastAPI; alembic makes their table."""

import os

import psycopg
from fastapi import FastAPI

app = FastAPI()


def rows(sql, *values):
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        return connection.execute(sql, values).fetchall()


@app.get("/health")
def health():
    return {"greeting": os.environ["GREETING"], "secret": len(os.environ["SECRET"])}


@app.post("/books/{title}")
def add(title: str):
    return rows("insert into book (title) values (%s) returning id, current_user", title)[0]
