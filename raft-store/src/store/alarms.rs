//! The alarm calls of the store's face, and what room a write has.

use super::space::NoRoom;
use crate::command::{Command, Outcome};
use crate::*;

impl Store {
    /// The alarms of all members that are on.
    pub async fn alarms(&self) -> Result<AlarmResponse, Error> {
        self.inner.read_index.wait().await?;
        let view = self.inner.view.load();
        Ok(AlarmResponse {
            revision: view.horizon.revision,
            alarms: view.alarms.list(),
        })
    }

    /// The alarms that this member knows to be on, without asking anyone.
    pub fn known_alarms(&self) -> Vec<Alarm> {
        self.inner.view.load().alarms.list()
    }

    /// Turns an alarm on; answers with it, also if it was on.
    pub async fn alarm_activate(
        &self,
        member_id: u64,
        kind: AlarmKind,
    ) -> Result<AlarmResponse, Error> {
        self.set_alarm(Alarm { member_id, kind }, true).await
    }

    /// Turns an alarm off; answers with it, or with none if it was not on.
    pub async fn alarm_deactivate(
        &self,
        member_id: u64,
        kind: AlarmKind,
    ) -> Result<AlarmResponse, Error> {
        self.set_alarm(Alarm { member_id, kind }, false).await
    }

    async fn set_alarm(&self, alarm: Alarm, on: bool) -> Result<AlarmResponse, Error> {
        let command = Command::Alarm {
            alarm,
            on,
            automatic: false,
        };
        match self.inner.proposals.propose(command).await? {
            Outcome::Alarm(response) => Ok(response),
            other => unreachable!("an alarm was answered by {other:?}"),
        }
    }

    /// Refuses a write that has no room; over the quota it raises this member's alarm, as etcd does.
    pub(super) async fn check_room(&self, command: &Command) -> Result<(), Error> {
        if self.inner.view.load().alarms.check(command).is_err() {
            // Apply would refuse it; the log of a member without room need not hold it. The alarm may be off since.
            self.inner.read_index.wait().await?;
            self.inner.view.load().alarms.check(command)?;
        }
        let view = self.inner.view.load();
        let checked = self
            .inner
            .space
            .check(command, || view.snapshot.engine().size().1);
        let alarm = Alarm {
            member_id: self.inner.data_dir.identity.member_id,
            kind: AlarmKind::NoSpace,
        };
        let raised = view.alarms.is_automatic(alarm);
        drop(view);
        match checked {
            Ok(()) => Ok(()),
            Err(NoRoom::Quota) if raised != Some(false) => {
                tracing::warn!(
                    "the quota is used up: writes are refused; compact, raise the quota or delete keys, then disarm the alarm"
                );
                // The write is refused all the same.
                let _ = self.set_alarm(alarm, true).await;
                Err(Error::NoSpace)
            }
            Err(_) => Err(Error::NoSpace),
        }
    }

    /// Nothing is read from a cluster that is known to be corrupt.
    pub(super) fn check_whole(&self) -> Result<(), Error> {
        match self.inner.view.load().alarms.has(AlarmKind::Corrupt) {
            true => Err(Error::Corrupt),
            false => Ok(()),
        }
    }
}
