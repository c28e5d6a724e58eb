use super::*;
use crate::http::testing::{Reply, Server};

fn provider(server: &Server) -> HttpVmProvider {
    HttpVmProvider::new(&HostSettings {
        url: server.url.clone(),
        token: Some(Token::new("jwt")),
        vm_type: None,
    })
}

fn vm(id: &str, status: &str) -> Value {
    json!({ "id": id, "vm_id": id, "name": "n", "status": status, "vm_type": "focal", "created_at": "x" })
}

#[test]
fn settings_come_from_variables_and_have_defaults() {
    let none = HostSettings::from_variables(|_| None);
    assert_eq!(none, HostSettings { url: DEFAULT_URL.into(), token: None, vm_type: None });
    let empty = HostSettings::from_variables(|_| Some(" ".into()));
    assert_eq!(empty, none);
    let all = HostSettings::from_variables(|name| {
        let value = match name {
            "FIRECRACKER_API_URL" => "http://host:1",
            "FIRECRACKER_AUTH_TOKEN" => "jwt",
            "FIRECRACKER_VM_TYPE" => "focal",
            _ => return None,
        };
        Some(value.to_owned())
    });
    assert_eq!(
        all,
        HostSettings {
            url: "http://host:1".into(),
            token: Some(Token::new("jwt")),
            vm_type: Some("focal".into())
        }
    );
    assert!(!format!("{all:?}").contains("jwt"));
}

#[tokio::test]
async fn a_vm_is_created_awaited_and_deleted() {
    let server = Server::start([
        Reply::Json(201, vm("vm 1", "creating")),
        Reply::Json(200, vm("vm 1", "Running")),
        Reply::Json(200, json!({})),
    ])
    .await;
    let provider = provider(&server);
    let (id, _) = provider.allocate("focal").await.unwrap();
    provider.release(&id).await.unwrap();
    assert_eq!(id, "vm 1");
    assert_eq!(server.lines(), ["POST /api/vms", "GET /api/vms/vm%201", "DELETE /api/vms/vm%201"]);
    let created = &server.seen()[0];
    assert_eq!(created.body["vm_type"], "focal");
    assert_eq!(created.authorization.as_deref(), Some("Bearer jwt"));
}

#[tokio::test]
async fn a_vm_that_does_not_start_is_deleted() {
    let server = Server::start([
        Reply::Json(201, vm("v", "creating")),
        Reply::Json(200, vm("v", "failed")),
        Reply::Json(200, json!({})),
    ])
    .await;
    let error = provider(&server).allocate("focal").await.unwrap_err();
    assert!(chain(&error).contains("VM v is failed"), "{}", chain(&error));
    assert_eq!(server.lines()[2], "DELETE /api/vms/v");
}

#[tokio::test]
async fn a_vm_whose_answer_is_lost_is_found_by_its_name() {
    let server = Server::start([Reply::Close, Reply::Json(200, json!({"vms": []}))]).await;
    let error = provider(&server).allocate("focal").await.unwrap_err();
    assert!(matches!(error, GitHubRunnerError::Http(HttpError::Broken { .. })), "{error:?}");
    assert_eq!(server.lines(), ["POST /api/vms", "GET /api/vms"], "created once only");
}

#[tokio::test]
async fn a_full_host_is_asked_again_and_other_refusals_are_not() {
    let busy = Reply::Json(429, json!({"error": "no room"}));
    let server = Server::start([busy, Reply::Json(200, vm("v", "running"))]).await;
    assert_eq!(provider(&server).allocate("focal").await.unwrap().0, "v");
    assert_eq!(server.lines().len(), 2);

    for status in [400, 401, 403, 500, 503] {
        let server = Server::start([Reply::Json(status, json!({"error": "no"}))]).await;
        let error = provider(&server).allocate("focal").await.unwrap_err();
        let GitHubRunnerError::Http(error) = error else { panic!("{error:?}") };
        assert_eq!(error.status().map(|s| s.as_u16()), Some(status));
        assert_eq!(server.lines(), ["POST /api/vms"], "status {status}");
    }
}

#[tokio::test]
async fn an_answer_without_id_or_status_is_an_error() {
    for body in [json!({"status": "running"}), json!({"id": "v"}), json!([]), json!({"id": 1, "status": "x"})]
    {
        let server = Server::start([Reply::Json(200, body.clone())]).await;
        let error = provider(&server).allocate("focal").await.unwrap_err();
        assert!(matches!(error, GitHubRunnerError::Http(HttpError::Malformed { .. })), "{body}: {error:?}");
    }
}

#[tokio::test]
async fn releasing_is_repeated_until_it_is_known_and_a_missing_vm_is_gone() {
    let server = Server::start([
        Reply::Close,
        Reply::Json(503, json!({"error": "restarting"})),
        Reply::Json(404, json!({"error": "unknown"})),
    ])
    .await;
    provider(&server).release("v").await.unwrap();
    assert_eq!(server.lines().len(), 3);

    let server = Server::start([Reply::Json(403, json!({"error": "not yours"}))]).await;
    provider(&server).release("v").await.unwrap_err();
}

#[test]
fn an_id_cannot_leave_its_segment() {
    assert_eq!(vm_path("../x/y?z#", "/snapshots"), "/api/vms/..%2Fx%2Fy%3Fz%23/snapshots");
    assert_eq!(segment(".."), "%2E%2E");
    assert_eq!(segment("vm-1_2.3~ü"), "vm-1_2.3~%C3%BC");
}
