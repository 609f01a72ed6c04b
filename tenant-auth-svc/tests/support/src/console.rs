//! Commands of the program that concern its data, its tokens and single statements; the others are in
//! [`crate::control`].
//!
//! `fault-where COUNT NAME TEXT` (the next COUNT requests whose SQL contains TEXT), `token TOKEN`, `cut-off
//! on|off` and `catch-up` for a read replica, `backup`, `restore`, `wipe`, `execute SQL` and `query SQL`
//! (directly, bypassing the protocol and every fault).

use serde_json::{Value as Json, json};
use tenant_auth_testkit::{Backup, HranaServer};

use crate::control;

/// A server and optionally a read replica of it. If there is a read replica, clients read from it and faults
/// apply to it.
pub(crate) struct Console {
    pub(crate) primary: HranaServer,
    pub(crate) read_replica: Option<HranaServer>,
    pub(crate) backup: Option<Backup>,
}

impl Console {
    /// Runs the command of a line and returns its result: `true` if it has none.
    ///
    /// # Errors
    /// Returns what is wrong with the line, or the engine's message.
    pub(crate) async fn run_command(&mut self, line: &str) -> Result<Json, String> {
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        let message = |error: std::io::Error| error.to_string();
        match command {
            "fault-where" => self.fault_where(rest)?,
            "token" => self.primary.set_token(rest),
            "cut-off" => self.client_facing().set_partitioned(rest == "on"),
            "catch-up" => self.client_facing().catch_up().await?,
            "backup" => self.backup = Some(self.primary.backup()?),
            "restore" => {
                let backup = self.backup.as_ref().ok_or("there is no backup yet")?;
                self.primary.restore(backup).await.map_err(message)?;
            }
            "wipe" => self.primary.wipe().await.map_err(message)?,
            "execute" => return Ok(json!(self.primary.execute(rest)?)),
            "query" => return Ok(Json::Array(self.primary.query(rest)?)),
            // A read replica has no write lock, and stops with its primary.
            "hold-writes" => control::run_command(&mut self.primary, line).await?,
            _ => control::run_command(self.read_replica.as_mut().unwrap_or(&mut self.primary), line).await?,
        }
        Ok(Json::Bool(true))
    }

    fn client_facing(&self) -> &HranaServer {
        self.read_replica.as_ref().unwrap_or(&self.primary)
    }

    fn fault_where(&self, rest: &str) -> Result<(), String> {
        let words: Vec<_> = rest.splitn(3, ' ').collect();
        let [count, name, text] = words[..] else {
            return Err("fault-where needs COUNT NAME TEXT".to_owned());
        };
        let count = count.parse().map_err(|_| format!("{count:?} is not a number"))?;
        self.client_facing().faults().set_where(text, count, control::parse_fault(name)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn console_backs_up_wipes_and_restores_data() {
        let primary = HranaServer::builder().start().await.expect("a server");
        let mut console = Console { primary, read_replica: None, backup: None };
        let rows = |found: Json| found.as_array().map(Vec::len);
        for line in ["execute CREATE TABLE t (x)", "execute INSERT INTO t VALUES (1)", "backup", "wipe"] {
            console.run_command(line).await.expect(line);
        }
        assert!(console.run_command("query SELECT x FROM t").await.is_err(), "the table no longer exists");
        console.run_command("restore").await.expect("restored");
        assert_eq!(
            rows(console.run_command("query SELECT x FROM t").await.expect("the row must exist")),
            Some(1)
        );
        console.run_command("fault-where 3 blocked FROM t").await.expect("a fault");
        assert!(console.run_command("fault-where x blocked FROM t").await.is_err());
        assert!(console.run_command("clear").await.is_ok());
    }
}
