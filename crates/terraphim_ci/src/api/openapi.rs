//! The OpenAPI document. `docs/openapi.json` is a copy of it, which a test compares; `TCI_UPDATE=1` writes it anew.

use serde_json::{Map, Value, json};

/// One call.
struct Operation {
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    /// Schemas by name: of the body, if there is one, and of the answer.
    request: Option<&'static str>,
    response: &'static str,
    /// Refusals that it can end in besides 401, 403 and 503, and 408 if it has a body.
    errors: &'static [u16],
}

const fn get(
    path: &'static str,
    summary: &'static str,
    response: &'static str,
    errors: &'static [u16],
) -> Operation {
    Operation { method: "get", path, summary, request: None, response, errors }
}

const fn post(
    path: &'static str,
    summary: &'static str,
    request: Option<&'static str>,
    response: &'static str,
    errors: &'static [u16],
) -> Operation {
    Operation { method: "post", path, summary, request, response, errors }
}

const DELETE_VM: Operation = Operation {
    method: "delete",
    path: "/api/vms/{id}",
    summary: "Stop and remove a VM with everything in it.",
    request: None,
    response: "Message",
    errors: &[404],
};

const PUT_FILES: Operation = Operation {
    method: "put",
    path: "/api/vms/{id}/files",
    summary: "Unpack a tar stream below the directory `path` of a running VM; everything belongs to `owner`.",
    request: Some("Tar"),
    response: "Message",
    errors: &[400, 404, 409],
};

const OPERATIONS: &[Operation] = &[
    get("/health", "A sign of life; needs no token.", "Health", &[]),
    get("/openapi.json", "This document; needs no token.", "Document", &[]),
    get(
        "/.well-known/openid-configuration",
        "The issuer of identity tokens; needs no token.",
        "Document",
        &[404],
    ),
    get("/.well-known/jwks", "The keys that verify identity tokens; needs no token.", "Document", &[404]),
    get("/api/vms", "The caller's VMs.", "Vms", &[]),
    post("/api/vms", "Make and start a VM.", Some("NewVm"), "Vm", &[400, 409, 413, 429]),
    get("/api/vms/{id}", "One VM, by id or name. It is `running` as soon as commands can run.", "Vm", &[404]),
    DELETE_VM,
    post("/api/vms/{id}/start", "Start a VM that has ended.", None, "Vm", &[404, 409]),
    post("/api/vms/{id}/stop", "Stop a VM and keep its disk.", None, "Message", &[404]),
    post(
        "/api/llm/execute",
        "Run a command; without `vm_id` in a new VM, which stays. A command that fails is 200 with its exit code. \
         A client that disconnects stops its command.",
        Some("Execute"),
        "Execution",
        &[400, 404, 409, 413, 429],
    ),
    post(
        "/api/vms/{id}/snapshots",
        "Keep memory and disk of a running VM.",
        Some("NewSnapshot"),
        "Snapshot",
        &[400, 404, 409, 413],
    ),
    get("/api/vms/{id}/snapshots", "The snapshots of a running VM.", "Snapshots", &[404, 409]),
    post(
        "/api/vms/{id}/rollback/{snapshot_id}",
        "Set a VM back to a snapshot. Commands that run in it are lost (503).",
        None,
        "Message",
        &[404, 409],
    ),
    get(
        "/api/vms/{id}/history",
        "What ran in a VM, newest first. Query: `limit` (50, at most 1000), `failures_only`.",
        "History",
        &[400, 404],
    ),
    get(
        "/api/vms/{id}/executions/{execution_id}",
        "One command with its output so far; `exit_code` is null while it runs.",
        "Execution",
        &[404],
    ),
    post(
        "/api/vms/{id}/executions/{execution_id}/cancel",
        "Stop a running command.",
        None,
        "Message",
        &[404, 409],
    ),
    get(
        "/api/vms/{id}/executions/{execution_id}/stream",
        "The output as it comes, one JSON object a line; the last has `exit_code`, `failed` or `lost`. `offset` \
         continues behind the line that said it.",
        "Lines",
        &[400, 404, 409],
    ),
    get("/api/vms/{id}/files", "A tar stream of `path` in a running VM.", "Tar", &[400, 404, 409]),
    PUT_FILES,
];

/// The whole document.
pub(super) fn document() -> Value {
    let mut paths = Map::new();
    for operation in OPERATIONS {
        let item = paths.entry(operation.path).or_insert_with(|| path_item(operation.path));
        item[operation.method] = describe(operation);
    }
    json!({
        "openapi": "3.0.3",
        "info": {
            "title": "Terraphim CI: VM host",
            "version": "1",
            "description": "Virtual machines of one host, and commands in them. Served by `tci serve`.",
        },
        "servers": [{"url": "http://127.0.0.1:8080"}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
            "schemas": schemas(),
        },
    })
}

fn path_item(path: &str) -> Value {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parameters: Vec<Value> = names
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect();
    if parameters.is_empty() { json!({}) } else { json!({"parameters": parameters}) }
}

fn describe(operation: &Operation) -> Value {
    let is_open = !operation.path.starts_with("/api");
    let mut responses = Map::new();
    responses.insert("200".to_owned(), content("Done.", operation.response));
    if operation.request == Some("Execute") {
        responses
            .insert("202".to_owned(), content("With `wait: false`: noted down and started.", "Accepted"));
    }
    let always: &[u16] = if is_open { &[] } else { &[401, 403, 503] };
    let of_body: &[u16] = if operation.request.is_some() { &[408] } else { &[] };
    for status in operation.errors.iter().chain(of_body).chain(always) {
        responses.insert(status.to_string(), content(reason(*status), "Error"));
    }
    let mut described = json!({"summary": operation.summary, "responses": responses});
    let query = query(operation);
    if !query.is_empty() {
        described["parameters"] = json!(query);
    }
    if let Some(request) = operation.request {
        described["requestBody"] = json!({"required": true, "content": json_of(request)});
    }
    if !is_open {
        described["security"] = json!([{"token": []}]);
    }
    described
}

fn query(operation: &Operation) -> Vec<Value> {
    let fields: &[(&str, &str, bool)] = match operation.path.rsplit('/').next() {
        Some("history") => &[("limit", "integer", false), ("failures_only", "boolean", false)],
        Some("stream") => &[("offset", "integer", false)],
        Some("files") if operation.method == "put" => &[("path", "string", true), ("owner", "string", false)],
        Some("files") => &[("path", "string", true)],
        _ => &[],
    };
    let describe = |(name, kind, required): &(&str, &str, bool)| json!({"name": name, "in": "query", "required": required, "schema": {"type": kind}});
    fields.iter().map(describe).collect()
}

fn content(description: &str, schema: &str) -> Value {
    json!({"description": description, "content": json_of(schema)})
}

fn json_of(schema: &str) -> Value {
    let media = match schema {
        "Tar" => "application/x-tar",
        "Lines" => "application/x-ndjson",
        _ => "application/json",
    };
    json!({media: {"schema": {"$ref": format!("#/components/schemas/{schema}")}}})
}

fn reason(status: u16) -> &'static str {
    match status {
        400 => "The request makes no sense.",
        401 => "No token, a wrong one, an expired or a revoked one.",
        403 => "An unknown user, or somebody else's VM.",
        404 => "There is no such thing.",
        408 => "Nothing more of the request's body came.",
        409 => "Not in this state, or the name is taken.",
        413 => "The request is too large.",
        429 => "The user has as many VMs as are allowed.",
        _ => "The host failed: nothing is known about what was asked for.",
    }
}

/// An object whose fields are `name: type`, a `?` after the type when the field may be absent or null.
fn object(fields: &[(&str, &str)]) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (name, kind) in fields {
        let plain = kind.trim_end_matches('?');
        let mut schema = match plain.strip_prefix("[]") {
            Some(item) => json!({"type": "array", "items": {"$ref": format!("#/components/schemas/{item}")}}),
            None if plain == "time" => json!({"type": "string", "format": "date-time"}),
            None => json!({"type": plain}),
        };
        if plain.len() < kind.len() {
            schema["nullable"] = json!(true);
        } else {
            required.push(*name);
        }
        properties.insert((*name).to_owned(), schema);
    }
    json!({"type": "object", "properties": properties, "required": required})
}

fn schemas() -> Value {
    json!({
        "Error": object(&[("error", "string")]),
        "Health": object(&[("service", "string"), ("status", "string"), ("timestamp", "time")]),
        "Document": {"type": "object"},
        "Tar": {"type": "string", "format": "binary"},
        "Lines": {"type": "string"},
        "Message": object(&[
            ("message", "string"), ("id", "string?"), ("vm_id", "string"), ("snapshot_id", "string?"),
            ("execution_id", "string?"), ("step", "string?"),
        ]),
        "NewVm": object(&[("vm_type", "string?"), ("name", "string?"), ("vm_name", "string?")]),
        "Vm": object(&[
            ("id", "string"), ("vm_id", "string"), ("name", "string"), ("status", "string"), ("vm_type", "string?"),
            ("user_id", "string"), ("vcpus", "integer"), ("memory_mib", "integer"), ("created_at", "time"),
            ("updated_at", "time"),
        ]),
        "Vms": object(&[("user", "string"), ("total", "integer"), ("usage", "object"), ("vms", "[]Vm")]),
        "Execute": object(&[
            ("code", "string"), ("language", "string?"), ("agent_id", "string?"), ("vm_id", "string?"),
            ("vm_type", "string?"), ("working_dir", "string?"), ("timeout_seconds", "integer?"),
            ("timeout_ms", "integer?"), ("wait", "boolean?"),
        ]),
        "Execution": object(&[
            ("execution_id", "string"), ("vm_id", "string"), ("exit_code", "integer?"), ("stdout", "string"),
            ("stderr", "string"), ("truncated", "boolean"), ("duration_ms", "integer?"), ("started_at", "time"),
            ("completed_at", "time?"), ("error", "string?"),
        ]),
        "Accepted": object(&[("execution_id", "string"), ("vm_id", "string"), ("started_at", "time")]),
        "NewSnapshot": object(&[("name", "string"), ("description", "string?")]),
        "Snapshot": object(&[
            ("snapshot_id", "string"), ("name", "string"), ("description", "string?"), ("created_at", "time"),
        ]),
        "Snapshots": object(&[("vm_id", "string"), ("total", "integer"), ("snapshots", "[]Snapshot")]),
        "HistoryEntry": object(&[
            ("execution_id", "string"), ("command", "string"), ("language", "string"), ("agent_id", "string?"),
            ("working_dir", "string?"), ("status", "string"), ("exit_code", "integer?"), ("duration_ms", "integer?"),
            ("started_at", "time"), ("completed_at", "time?"), ("error", "string?"),
        ]),
        "History": object(&[("vm_id", "string"), ("total", "integer"), ("history", "[]HistoryEntry")]),
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn the_checked_in_document_is_the_present_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
        let text = format!("{}\n", serde_json::to_string_pretty(&document()).unwrap());
        if std::env::var_os("TCI_UPDATE").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let checked_in = fs::read_to_string(&path).unwrap();
        assert!(
            checked_in == text,
            "docs/openapi.json is old: TCI_UPDATE=1 cargo test -p terraphim_ci openapi"
        );
    }

    #[test]
    fn every_schema_that_is_named_exists() {
        let (document, schemas) = (document().to_string(), schemas());
        for reference in document.split("#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(schemas.get(name).is_some(), "{name}");
        }
    }
}
