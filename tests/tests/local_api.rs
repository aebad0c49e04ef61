//! Python actions talk to their node over its socket, with a token that ends with them and can't do everything.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use e2e::{Node, NodeOptions};
use reqwest::Method;
use serde_json::json;

const DEADLINE: Duration = Duration::from_secs(30);

/// Tells what kinds of sockets were connected while it used the datastore, and what else its token is good for.
const ACTION: &str = "\
import os
import socket
import urllib.error
import urllib.request

from st2common.runners.base_action import Action

families = []


def recording(real):
    def connect(self, address):
        families.append(self.family.name)
        return real(self, address)

    return connect


class Store(Action):
    def run(self):
        socket.socket.connect = recording(socket.socket.connect)
        self.action_service.set_value('colour', 'blue', local=False)
        found = self.action_service.get_value('colour', local=False)
        used = list(families)
        token = os.environ['ST2_ACTION_AUTH_TOKEN']
        request = urllib.request.Request(
            os.environ['ST2_ACTION_API_URL'] + '/apikeys',
            data=b'{}',
            headers={'X-Auth-Token': token, 'Content-Type': 'application/json'},
        )
        try:
            key = urllib.request.urlopen(request).status
        except urllib.error.HTTPError as error:
            key = error.code
        return {'found': found, 'used': used, 'parts': token.split('.'), 'key': key}
";

fn write_pack(data: &Path) -> Result<()> {
    let pack = data.join("packs/stranger");
    std::fs::create_dir_all(pack.join("actions"))?;
    let manifest = "ref: stranger\nname: stranger\ndescription: d\nversion: 1.0.0\nauthor: a\nemail: a@example.com\n";
    std::fs::write(pack.join("pack.yaml"), manifest)?;
    let action = "name: store\nrunner_type: python-script\nentry_point: store.py\nenabled: true\n";
    std::fs::write(pack.join("actions/store.yaml"), action)?;
    Ok(std::fs::write(pack.join("actions/store.py"), ACTION)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_reaches_its_node_by_a_socket_and_its_token_is_bounded() -> Result<()> {
    let dir = tempfile::tempdir()?;
    write_pack(dir.path())?;
    let mut node = Node::start_in(dir.path(), NodeOptions::default()).await?;
    let api = node.admin().await?;
    api.post("/v1/packs/register", &json!({"packs": ["stranger"], "types": ["all"]})).await?;
    let socket = dir.path().join("api.sock");
    assert_eq!(socket.metadata()?.permissions().mode() & 0o777, 0o600);

    let id = api.run("stranger.store", json!({})).await?;
    let done = api.finished(&id, DEADLINE).await;
    let result = &done["result"]["result"];
    assert_eq!(result["found"], "blue", "{done}");
    assert_eq!(result["used"], json!(["AF_UNIX", "AF_UNIX"]));
    assert_eq!(result["key"], 403, "a credential that would outlast the action");

    let parts: Vec<&str> = result["parts"].as_array().into_iter().flatten().filter_map(|part| part.as_str()).collect();
    let mut late = api.clone();
    late.token = parts.join(".");
    let refused = late.call(Method::GET, "/v1/user", None).await?;
    assert_eq!((refused.status, refused.text.contains("Token has expired")), (401, true), "{}", refused.text);

    node.stop(DEADLINE).await?;
    assert!(!socket.exists());
    Ok(())
}
