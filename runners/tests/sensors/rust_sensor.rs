use std::io::{BufRead, BufReader, Write};
use std::os::{fd::FromRawFd, unix::net::UnixStream};

fn main() -> std::io::Result<()> {
    let fd: i32 = std::env::var("SQUALL_SENSOR_FD").ok().and_then(|fd| fd.parse().ok()).unwrap_or(3);
    // SAFETY: the node opened this descriptor for us, and nothing else in this process uses it.
    let mut channel = unsafe { UnixStream::from_raw_fd(fd) };
    let mut lines = BufReader::new(channel.try_clone()?).lines();
    let start: serde_json::Value = serde_json::from_str(&lines.next().expect("start")?)?;
    let interval = start["poll_interval"].as_u64().unwrap_or(60);
    writeln!(channel, r#"{{"type":"ready"}}"#)?;
    for id in 1u64.. {
        let event = serde_json::json!({"type": "dispatch", "id": id, "trigger": "my.minute", "payload": {"n": id}});
        writeln!(channel, "{event}")?;
        loop {
            // A line that can't be had means that the node is gone.
            let Some(line) = lines.next() else { return Ok(()) };
            let message: serde_json::Value = serde_json::from_str(&line?)?;
            if message["type"] == "ack" && message["id"] == id {
                break;
            }
        }
        std::thread::sleep(std::time::Duration::from_secs(interval));
    }
    Ok(())
}
