//! CronJob: makes a Job at each time of a schedule.
//!
//! A job's name is made from its scheduled time, so that the same time never makes two. What is due is decided in `due`,
//! schedules are read and followed in `schedule`.

mod due;
mod schedule;

use std::sync::Arc;
use std::time::Duration;

use api_client::{
    Change, DeleteOptions, EventType, Informer, ObjectKey, Propagation, is_already_exists,
    is_not_found,
};
use async_trait::async_trait;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::jiff::tz::TimeZone;

use crate::context::{Context, Controller, Queue, enqueue_on_change, until};
use crate::error::Outcome;
use crate::support::{Meta, controller_of, is_controlled_by, is_namespace_terminating, resolve};
use due::{Due, Refusal};
use schedule::Schedule;

/// Added to each wait, so that the scheduled time has surely come.
const SKEW: Duration = Duration::from_millis(100);

pub(crate) fn start(context: &Context, queue: &Queue) -> Arc<dyn Controller> {
    let cron_jobs = context.informer::<CronJob>();
    let jobs = context.informer::<Job>();
    enqueue_on_change(&cron_jobs, queue);
    let (owners, keys) = (cron_jobs.clone(), queue.clone());
    jobs.on_change(move |change| {
        let job = change.object();
        let settled =
            matches!(change, Change::Applied { old: Some(old), new } if old.status == new.status);
        let owner = controller_of(job.as_ref())
            .and_then(|reference| resolve(&owners, job.namespace(), reference));
        if let Some(owner) = owner.filter(|_| !settled) {
            keys.add(ObjectKey::of(owner.as_ref()));
        }
    });
    Arc::new(CronJobController {
        context: context.clone(),
        queue: queue.clone(),
        cron_jobs,
        jobs,
    })
}

struct CronJobController {
    context: Context,
    queue: Queue,
    cron_jobs: Informer<CronJob>,
    jobs: Informer<Job>,
}

#[async_trait]
impl Controller for CronJobController {
    async fn reconcile(&self, key: &ObjectKey) -> Outcome {
        let Some(cached) = self.cron_jobs.get(key) else {
            return Ok(());
        };
        let mut cron_job = (*cached).clone();
        let mut jobs = self.jobs.by_owner(cron_job.uid());
        jobs.retain(|job| is_controlled_by(job.as_ref(), &cron_job));
        self.clean_up_history(&cron_job, &jobs).await?;
        self.follow_active(&mut cron_job, &jobs).await?;
        let result = self.start_due(key, &mut cron_job, &jobs).await;
        if cron_job.status != cached.status {
            self.context.client.update_status(&cron_job).await?;
        }
        result
    }
}

impl CronJobController {
    fn event(&self, cron_job: &CronJob, event_type: EventType, reason: &str, message: String) {
        self.context
            .recorder
            .record_for(cron_job, event_type, reason, message);
    }

    /// Takes finished and vanished jobs off the list of active ones.
    async fn follow_active(&self, cron_job: &mut CronJob, jobs: &[Arc<Job>]) -> Outcome {
        let before = cron_job.clone();
        let active = |uid: &str| {
            let list = before.status.as_ref().and_then(|s| s.active.as_ref());
            list.into_iter()
                .flatten()
                .any(|reference| reference.uid.as_deref() == Some(uid))
        };
        let status = cron_job.status.get_or_insert_default();
        for job in jobs {
            let end = due::end_of(job);
            if !active(job.uid()) && end.is_none() {
                let message = format!(
                    "Saw a job that the controller did not create or forgot: {}",
                    job.name()
                );
                self.event(&before, EventType::Warning, "UnexpectedJob", message);
            }
            let Some((kind, at)) = end.filter(|_| active(job.uid())) else {
                continue;
            };
            status
                .active
                .get_or_insert_default()
                .retain(|r| r.uid.as_deref() != Some(job.uid()));
            let message = format!("Saw completed job: {}, condition: {kind}", job.name());
            self.event(&before, EventType::Normal, "SawCompletedJob", message);
            if kind == "Complete" && status.last_successful_time.as_ref().map(|t| t.0) < at {
                status.last_successful_time = at.map(Time);
            }
        }
        let vanished: Vec<_> = status.active.iter().flatten().cloned().collect();
        for reference in vanished {
            let (uid, name) = (
                reference.uid.clone().unwrap_or_default(),
                reference.name.clone().unwrap_or_default(),
            );
            if jobs.iter().any(|job| job.uid() == uid) {
                continue;
            }
            // Looked for live: a job that was just made may not have been seen yet.
            let live = self
                .context
                .client
                .get::<Job>(Some(before.namespace()), &name)
                .await;
            match live {
                Ok(job) if job.uid() == uid => {}
                Err(failure) if !is_not_found(&failure) => return Err(failure.into()),
                _ => {
                    status
                        .active
                        .get_or_insert_default()
                        .retain(|r| r.uid.as_deref() != Some(uid.as_str()));
                    let message = format!("Active job went missing: {name}");
                    self.event(&before, EventType::Normal, "MissingJob", message);
                }
            }
        }
        status.active = status.active.take().filter(|all| !all.is_empty());
        if before.status.is_none() && *status == Default::default() {
            cron_job.status = None;
        }
        Ok(())
    }

    async fn start_due(
        &self,
        key: &ObjectKey,
        cron_job: &mut CronJob,
        jobs: &[Arc<Job>],
    ) -> Outcome {
        let spec = cron_job.spec.clone();
        if cron_job.is_deleting() || spec.suspend == Some(true) {
            return Ok(());
        }
        let Some(schedule) = self.schedule(cron_job) else {
            return Ok(());
        };
        let now = self.context.now();
        let decision = due::decide(cron_job, &schedule, now);
        if decision.too_many_missed {
            let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            self.event(
                cron_job,
                EventType::Warning,
                "TooManyMissedTimes",
                message.to_owned(),
            );
        }
        match &decision.due {
            Due::Nothing => {}
            Due::Refused(refusal) => self.tell(cron_job, refusal),
            Due::Start { at, replace } => {
                if *replace {
                    self.delete_active(cron_job, jobs).await?;
                }
                self.create(cron_job, *at, &schedule).await?;
            }
        }
        if let Some(next) = decision.next {
            self.queue.add_after(key.clone(), until(now, next) + SKEW);
        }
        Ok(())
    }

    fn schedule(&self, cron_job: &CronJob) -> Option<Schedule> {
        let spec = &cron_job.spec;
        let zone = match &spec.time_zone {
            None => TimeZone::UTC,
            Some(name) => match TimeZone::get(name) {
                Ok(zone) => zone,
                Err(error) => {
                    let message = format!("invalid timeZone: \"{name}\": {error}");
                    self.event(cron_job, EventType::Warning, "UnknownTimeZone", message);
                    return None;
                }
            },
        };
        Schedule::parse(&spec.schedule, zone)
            .inspect_err(|error| {
                let message = format!("unparseable schedule: \"{}\" : {error}", spec.schedule);
                self.event(cron_job, EventType::Warning, "UnparseableSchedule", message);
            })
            .ok()
    }

    fn tell(&self, cron_job: &CronJob, refusal: &Refusal) {
        match refusal {
            Refusal::TooLate(at) => {
                let at = at.strftime("%a, %d %b %Y %H:%M:%S +0000");
                let message = format!("Missed scheduled time to start a job: {at}");
                self.event(cron_job, EventType::Warning, "MissSchedule", message);
            }
            Refusal::StillActive => {
                let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
                self.event(
                    cron_job,
                    EventType::Normal,
                    "JobAlreadyActive",
                    message.to_owned(),
                );
            }
        }
    }

    async fn delete(&self, cron_job: &CronJob, job: &Job) -> Outcome {
        let options = DeleteOptions {
            propagation: Some(Propagation::Background),
            uid: job.metadata.uid.clone(),
            ..DeleteOptions::default()
        };
        match self
            .context
            .client
            .delete::<Job>(Some(job.namespace()), job.name(), &options)
            .await
        {
            Err(status) if is_not_found(&status) => Ok(()),
            Err(status) => {
                let message = format!("Deleted job: {status}");
                self.event(cron_job, EventType::Warning, "FailedDelete", message);
                Err(status.into())
            }
            Ok(()) => {
                let message = format!("Deleted job {}", job.name());
                self.event(cron_job, EventType::Normal, "SuccessfulDelete", message);
                Ok(())
            }
        }
    }

    async fn delete_active(&self, cron_job: &mut CronJob, jobs: &[Arc<Job>]) -> Outcome {
        let active = cron_job
            .status
            .as_ref()
            .and_then(|s| s.active.clone())
            .unwrap_or_default();
        for reference in active {
            if let Some(job) = jobs
                .iter()
                .find(|job| Some(job.uid()) == reference.uid.as_deref())
            {
                self.delete(cron_job, job).await?;
            }
        }
        cron_job.status.get_or_insert_default().active = None;
        Ok(())
    }

    async fn create(&self, cron_job: &mut CronJob, at: Timestamp, schedule: &Schedule) -> Outcome {
        let job = due::job(cron_job, at, schedule.zone());
        let namespace = cron_job.namespace().to_owned();
        let created = match self.context.client.create(Some(&namespace), &job).await {
            Ok(created) => {
                let message = format!("Created job {}", created.name());
                self.event(cron_job, EventType::Normal, "SuccessfulCreate", message);
                created
            }
            Err(status) if is_namespace_terminating(&status) => return Ok(()),
            Err(status) if is_already_exists(&status) => {
                let existing: Job = self
                    .context
                    .client
                    .get(Some(&namespace), job.name())
                    .await?;
                if !is_controlled_by(&existing, cron_job) {
                    return Err(status.into());
                }
                existing
            }
            Err(status) => {
                let message = format!("Error creating job: {status}");
                self.event(cron_job, EventType::Warning, "FailedCreate", message);
                return Err(status.into());
            }
        };
        let status = cron_job.status.get_or_insert_default();
        if due::end_of(&created).is_none() {
            status
                .active
                .get_or_insert_default()
                .push(due::reference(&created));
        }
        status.last_schedule_time = Some(Time(at));
        Ok(())
    }

    async fn clean_up_history(&self, cron_job: &CronJob, jobs: &[Arc<Job>]) -> Outcome {
        for job in due::surplus_history(cron_job, jobs) {
            self.delete(cron_job, &job).await?;
        }
        Ok(())
    }
}
