//! Runs that recur.
//!
//! Invariant: a cron is due at the time its record says; the run of that time and the record's
//! next time are one write, so whatever crashes, and however many processes look, it is started
//! once. Deliberately absent: times that were missed while the server was
//! down; the last of them is made up for once.

use std::time::Duration;

use axum::{
    Json,
    extract::Path,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use jiff::Timestamp;
use lyceum_core::{Expect, RecordWrite, Scope, TenantId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    due::{LOOK, until},
    platform::{Platform, put_write},
    refusal::{Answer, Refusal},
    request::{Asked, has, uuid},
    resources::{CRON, now},
    runs::{Who, submit},
    schedule::Schedule,
};

/// The most crons of one user.
const MOST: usize = 1_000;

/// A run that recurs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Cron {
    cron_id: String,
    assistant_id: String,
    thread_id: Option<String>,
    on_run_completed: Option<String>,
    end_time: Option<String>,
    schedule: String,
    timezone: Option<String>,
    created_at: String,
    updated_at: String,
    payload: Map<String, Value>,
    user_id: String,
    next_run_date: Option<Timestamp>,
    metadata: Map<String, Value>,
    enabled: bool,
    /// The id that the next run will have.
    run_id: String,
    tenant: String,
    headers: Map<String, Value>,
}

impl Cron {
    fn shown(&self) -> Value {
        let mut shown = json!(self);
        if let Some(fields) = shown.as_object_mut() {
            fields.remove("tenant");
            fields.remove("headers");
        }
        shown
    }

    /// The body of a run.
    fn body(&self) -> Value {
        let mut body = self.payload.clone();
        body.insert("assistant_id".to_owned(), self.assistant_id.clone().into());
        let mut metadata = self.metadata.clone();
        metadata.insert("cron_id".to_owned(), self.cron_id.clone().into());
        body.insert("metadata".to_owned(), metadata.into());
        if self.on_run_completed.as_deref() == Some("keep") {
            body.insert("on_completion".to_owned(), "keep".into());
        }
        Value::Object(body)
    }

    /// Plans the next run, if there is one.
    fn plan(&mut self, now: Timestamp) -> Answer<()> {
        let invalid = |error: super::schedule::ScheduleError| Refusal::invalid(error.to_string());
        let schedule = Schedule::parse(&self.schedule, self.timezone.as_deref());
        let next = schedule.map_err(invalid)?.after(now).map_err(invalid)?;
        let end = match self.end_time.as_deref() {
            Some(end) => Some(end_time(end)?),
            None => None,
        };
        let is_there = self.enabled && end.is_none_or(|end| next < end);
        self.next_run_date = is_there.then_some(next);
        self.run_id = Uuid::now_v7().to_string();
        Ok(())
    }
}

/// A time; without a zone it is in UTC.
fn end_time(text: &str) -> Answer<Timestamp> {
    let read = text.parse::<Timestamp>();
    let read = read.or_else(|_| format!("{text}Z").parse());
    read.map_err(|_| Refusal::invalid("end_time must be a time of ISO 8601"))
}

/// What a request sets.
fn set(asked: &Asked, cron: &mut Cron) {
    const OWN: [&str; 8] = [
        "schedule",
        "timezone",
        "end_time",
        "enabled",
        "metadata",
        "on_run_completed",
        "cron_id",
        "thread_id",
    ];
    let text = |name: &str| asked.text(name).map(str::to_owned);
    if let Some(schedule) = text("schedule") {
        cron.schedule = schedule;
    }
    for (name, field) in [
        ("timezone", &mut cron.timezone),
        ("end_time", &mut cron.end_time),
        ("on_run_completed", &mut cron.on_run_completed),
    ] {
        if let Some(value) = text(name) {
            *field = Some(value);
        }
    }
    if let Some(Value::Bool(enabled)) = asked.value("enabled") {
        cron.enabled = *enabled;
    }
    cron.metadata.extend(asked.object("metadata"));
    for (name, value) in &asked.body {
        if !OWN.contains(&name.as_str()) && name != "id" {
            cron.payload.insert(name.clone(), value.clone());
        }
    }
    for name in ["schedule", "timezone", "metadata"] {
        if let Some(value) = asked.value(name) {
            cron.payload.insert(name.to_owned(), value.clone());
        }
    }
}

async fn make(asked: &Asked, thread: Option<String>) -> Answer<Json<Value>> {
    let owner = asked.owner();
    let wanted = asked.text("assistant_id").unwrap_or_default();
    let assistant = asked.platform.assistant(owner, wanted).await?;
    let assistant = assistant
        .current()
        .ok_or_else(|| Refusal::not_found("Assistant"))?;
    if asked.platform.all::<Cron>(owner, CRON, None).await?.len() >= MOST {
        return Err(Refusal::invalid(format!("at most {MOST} crons are kept")));
    }
    let mut cron = Cron {
        cron_id: Uuid::now_v7().to_string(),
        assistant_id: assistant.assistant_id.clone(),
        thread_id: thread,
        on_run_completed: None,
        end_time: None,
        schedule: String::new(),
        timezone: None,
        created_at: now(),
        updated_at: now(),
        payload: Map::new(),
        user_id: asked.scope().user.to_string(),
        next_run_date: None,
        metadata: Map::new(),
        enabled: true,
        run_id: String::new(),
        tenant: asked.scope().tenant.to_string(),
        headers: asked.headers.clone(),
    };
    set(asked, &mut cron);
    asked.platform.check_run(&cron.body())?;
    cron.plan(Timestamp::now())?;
    let write = put_write(CRON, &cron.cron_id, "", &cron, Expect::Absent);
    asked.platform.put(owner, vec![write]).await?;
    asked.platform.0.crons_changed.notify_one();
    Ok(Json(cron.shown()))
}

pub(crate) async fn create(asked: Asked) -> Answer<Json<Value>> {
    make(&asked, None).await
}

pub(crate) async fn create_on(Path(id): Path<String>, asked: Asked) -> Answer<Json<Value>> {
    let id = uuid(&id)?;
    asked.platform.thread(asked.owner(), &id).await?;
    make(&asked, Some(id)).await
}

async fn one(asked: &Asked, id: &str) -> Answer<Cron> {
    let found = asked.platform.get(asked.owner(), CRON, id).await?;
    found.ok_or_else(|| Refusal::not_found("Cron"))
}

pub(crate) async fn update(Path(id): Path<String>, asked: Asked) -> Answer<Json<Value>> {
    let mut wanted = one(&asked, &id).await?;
    set(&asked, &mut wanted);
    // What cannot be started or planned is not kept.
    asked.platform.check_run(&wanted.body())?;
    wanted.plan(Timestamp::now())?;
    let changed = asked
        .platform
        .change::<Cron>(asked.owner(), CRON, &id, |cron| {
            set(&asked, cron);
            cron.next_run_date = wanted.next_run_date;
            cron.run_id.clone_from(&wanted.run_id);
            cron.updated_at = now();
        })
        .await?;
    asked.platform.0.crons_changed.notify_one();
    let changed = changed.ok_or_else(|| Refusal::not_found("Cron"))?;
    Ok(Json(changed.shown()))
}

pub(crate) async fn delete(Path(id): Path<String>, asked: Asked) -> Answer<Response> {
    one(&asked, &id).await?;
    let delete = RecordWrite::Delete { kind: CRON, id };
    asked.platform.put(asked.owner(), vec![delete]).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn found(asked: &Asked) -> Answer<Vec<Value>> {
    let all: Vec<Cron> = asked.platform.all(asked.owner(), CRON, None).await?;
    let assistant = match asked.text("assistant_id") {
        Some(wanted) => {
            let found = asked.platform.assistant(asked.owner(), wanted).await?;
            found.current().map(|one| one.assistant_id.clone())
        }
        None => None,
    };
    let metadata = asked.object("metadata");
    let enabled = asked.value("enabled").and_then(Value::as_bool);
    let kept = all.iter().filter(|cron| {
        assistant.as_ref().is_none_or(|id| *id == cron.assistant_id)
            && asked
                .text("thread_id")
                .is_none_or(|id| Some(id) == cron.thread_id.as_deref())
            && enabled.is_none_or(|enabled| enabled == cron.enabled)
            && has(&json!(cron.metadata), &metadata)
    });
    Ok(kept.map(Cron::shown).collect())
}

pub(crate) async fn search(asked: Asked) -> Answer {
    asked.listed(found(&asked).await?, |_| Ok(()))
}

pub(crate) async fn count(asked: Asked) -> Answer<Json<usize>> {
    Ok(Json(found(&asked).await?.len()))
}

impl Platform {
    /// Starts the runs of crons when they come due, until it is cancelled.
    pub async fn tend_crons(&self, stop: CancellationToken) {
        loop {
            let wait = match self.due(Timestamp::now()).await {
                Ok(wait) => wait.min(LOOK),
                Err(refusal) => {
                    tracing::error!(?refusal, "crons cannot be read");
                    LOOK
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.0.crons_changed.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Starts what is due; gives the time until something is.
    async fn due(&self, now: Timestamp) -> Answer<Duration> {
        let mut wait = LOOK;
        for (owner, record) in self.0.records.every(CRON).await? {
            let revision = record.revision;
            let Ok(cron) = serde_json::from_str::<Cron>(&record.body) else {
                continue;
            };
            let Some(next) = cron.next_run_date else {
                continue;
            };
            if next > now {
                wait = wait.min(until(next, now));
                continue;
            }
            let mut planned = cron.clone();
            planned.plan(now)?;
            // The next time is written with the run: of several processes one starts it.
            let expect = Expect::Revision(revision);
            let advance = put_write(CRON, &cron.cron_id, &record.group, &planned, expect);
            let Err(refusal) = self.start_cron(&owner, &cron, advance).await else {
                continue;
            };
            let now_kept = self.get::<Cron>(&owner, CRON, &cron.cron_id).await?;
            if now_kept.is_none_or(|kept| kept.run_id != cron.run_id) {
                continue;
            }
            tracing::warn!(
                ?refusal,
                cron = cron.cron_id,
                "a cron's run cannot be started"
            );
            self.change::<Cron>(&owner, CRON, &cron.cron_id, |kept| {
                // A client may have changed it meanwhile.
                if kept.run_id == cron.run_id {
                    kept.next_run_date = planned.next_run_date;
                    kept.run_id.clone_from(&planned.run_id);
                }
            })
            .await?;
        }
        Ok(wait)
    }

    async fn start_cron(&self, owner: &TenantId, cron: &Cron, advance: RecordWrite) -> Answer<()> {
        let invalid = |_| Refusal::invalid("the cron names no valid user");
        let scope = Scope {
            tenant: TenantId::new(&cron.tenant).map_err(invalid)?,
            user: UserId::new(&cron.user_id).map_err(invalid)?,
            ..Scope::local()
        };
        let who = Who {
            platform: self,
            owner,
            scope: &scope,
            headers: &cron.headers,
            run_id: Some(cron.run_id.clone()),
            also: vec![advance],
        };
        submit(&who, cron.thread_id.as_deref(), cron.body()).await?;
        Ok(())
    }
}
