"""A link shortener: FastAPI and asyncpg, run and balanced by tercet."""

import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Annotated

import asyncpg
from fastapi import Depends, FastAPI, HTTPException, Request, Response, status
from fastapi.responses import JSONResponse, RedirectResponse
from pydantic import BaseModel, Field, HttpUrl

# The balancer gives every request an id; it is in each log line, so that one grep follows a request.
request_id: ContextVar[str] = ContextVar("request_id", default="-")


class RequestId(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        return True


handler = logging.StreamHandler()
handler.addFilter(RequestId())
handler.setFormatter(logging.Formatter("%(levelname)s [%(request_id)s] %(message)s"))
log = logging.getLogger("links")
log.addHandler(handler)
log.setLevel(logging.INFO)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=0, max_size=10, timeout=5) as pool:
        app.state.pool = pool
        yield


app = FastAPI(title="links", description=__doc__, lifespan=lifespan)


async def connection(request: Request) -> AsyncIterator[asyncpg.Connection]:
    async with request.app.state.pool.acquire(timeout=5) as connection:
        yield connection


Database = Annotated[asyncpg.Connection, Depends(connection)]


@app.middleware("http")
async def log_request(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    request_id.set(request.headers.get("x-request-id", "-"))
    started = time.perf_counter()
    response = await call_next(request)
    if request.url.path != "/health":
        milliseconds = (time.perf_counter() - started) * 1000
        log.info("%s %s %s %.1f ms", request.method, request.url.path, response.status_code, milliseconds)
    return response


@app.exception_handler(asyncpg.PostgresConnectionError)
@app.exception_handler(asyncpg.CannotConnectNowError)
@app.exception_handler(asyncpg.InterfaceError)
@app.exception_handler(OSError)
async def no_database(request: Request, error: Exception) -> JSONResponse:
    log.error("no database: %s", error)
    return JSONResponse({"detail": "the database does not answer"}, status.HTTP_503_SERVICE_UNAVAILABLE)


class NewLink(BaseModel):
    url: HttpUrl = Field(max_length=2000)
    code: str | None = Field(default=None, pattern="^[a-z0-9]{1,32}$")


class Link(BaseModel):
    code: str
    url: str
    created_at: datetime
    visits: int


@app.get("/health")
async def health(database: Database) -> dict[str, str]:
    """The health check: the balancer sends requests only while it succeeds."""
    await database.execute("select 1")
    return {"status": "ok"}


@app.post("/links", status_code=status.HTTP_201_CREATED)
async def create_link(link: NewLink, database: Database) -> Link:
    """Makes a short link, with a code of its own or the one asked for."""
    code = link.code or secrets.token_hex(4)
    try:
        row = await database.fetchrow(
            "insert into link (code, url) values ($1, $2) returning code, url, created_at, 0 as visits",
            code,
            str(link.url),
        )
    except asyncpg.UniqueViolationError:
        raise HTTPException(status.HTTP_409_CONFLICT, f"the code {code} is taken") from None
    return Link(**row)


@app.get("/links")
async def list_links(database: Database, limit: Annotated[int, Field(ge=1, le=100)] = 20) -> list[Link]:
    """The newest links."""
    rows = await database.fetch(
        "select link.*, (select count(*) from visit where visit.code = link.code) as visits"
        " from link order by created_at desc limit $1",
        limit,
    )
    return [Link(**row) for row in rows]


@app.get("/links/{code}")
async def read_link(code: str, database: Database) -> Link:
    """A link and how often it was followed."""
    row = await database.fetchrow(
        "select link.*, (select count(*) from visit where visit.code = link.code) as visits"
        " from link where code = $1",
        code,
    )
    if row is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "no such link")
    return Link(**row)


@app.delete("/links/{code}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_link(code: str, database: Database) -> None:
    """Forgets a link and its visits."""
    if await database.execute("delete from link where code = $1", code) == "DELETE 0":
        raise HTTPException(status.HTTP_404_NOT_FOUND, "no such link")


@app.get("/{code}", status_code=status.HTTP_307_TEMPORARY_REDIRECT)
async def follow(code: str, database: Database) -> RedirectResponse:
    """Leads to where the code points, and counts it."""
    async with database.transaction():
        url = await database.fetchval("select url from link where code = $1", code)
        if url is None:
            raise HTTPException(status.HTTP_404_NOT_FOUND, "no such link")
        await database.execute("insert into visit (code, request_id) values ($1, $2)", code, request_id.get())
    return RedirectResponse(url)
