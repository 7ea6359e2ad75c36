//! The workloads of the benchmarks: the same requests for the data API and for FastAPI.

/// A workload, as a request to the data API and to FastAPI; `KEY` becomes a random number up to `keys`.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) keys: u32,
    pub(crate) data_api: Request,
    pub(crate) fastapi: Request,
}

/// One request.
pub(crate) struct Request {
    pub(crate) target: &'static str,
    /// A `POST` with this JSON, or else a `GET`.
    pub(crate) body: Option<&'static str>,
}

const fn get(target: &'static str) -> Request {
    Request { target, body: None }
}

const fn post(target: &'static str, body: &'static str) -> Request {
    Request { target, body: Some(body) }
}

const VISIT: &str = r#"{"item_id":KEY,"note":"seen"}"#;

/// Over the tables of `shop.sql`.
pub(crate) const ONE_ROW: Workload = Workload {
    name: "one row by key",
    keys: 10_000,
    data_api: get("/item?id=eq.KEY"),
    fastapi: get("/item/KEY"),
};
/// 100 of 200 rows of a category.
pub(crate) const MANY_ROWS: Workload = Workload {
    name: "100 rows, filtered and ordered",
    keys: 50,
    data_api: get("/item?category_id=eq.KEY&order=price.desc&limit=100"),
    fastapi: get("/category/KEY/items"),
};
/// A customer with 5 purchases of 3 lines.
pub(crate) const EMBEDDED: Workload = Workload {
    name: "two levels embedded",
    keys: 2_000,
    data_api: get("/customer?id=eq.KEY&select=id,name,purchase(id,placed_at,line(item_id,amount))"),
    fastapi: get("/customer/KEY"),
};
/// One row.
pub(crate) const INSERT: Workload = Workload {
    name: "insert",
    keys: 10_000,
    data_api: post("/visit", VISIT),
    fastapi: post("/visit", VISIT),
};

/// Tables with data and grants.
pub(crate) const SCHEMA: &str = include_str!("shop.sql");
/// A FastAPI program that answers the same.
pub(crate) const FASTAPI: &str = include_str!("peer.py");

/// A script for wrk: the request with another random key each time.
pub(crate) fn lua(request: &Request, keys: u32) -> String {
    let quoted = |text: &str| format!("([[{text}]]):gsub('KEY', key)");
    let target = quoted(request.target);
    let call = match request.body {
        None => format!("wrk.format('GET', ({target}))"),
        Some(body) => format!(
            "wrk.format('POST', ({target}), {{['content-type'] = 'application/json'}}, ({}))",
            quoted(body)
        ),
    };
    format!("function request()\n  local key = tostring(math.random(1, {keys}))\n  return {call}\nend\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_has_a_key_of_its_own() {
        assert_eq!(
            lua(&get("/item/KEY"), 9),
            "function request()\n  local key = tostring(math.random(1, 9))\n  return wrk.format('GET', (([[/item/KEY]]):gsub('KEY', key)))\nend\n"
        );
        assert!(
            lua(&post("/visit", VISIT), 9)
                .contains("([[{\"item_id\":KEY,\"note\":\"seen\"}]]):gsub('KEY', key)")
        );
    }
}
