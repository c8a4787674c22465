//! Routes for tests that prove that nothing was lost or paid twice. `GET /sandbox/stats` counts requests, answers and payments.
//! `POST /sandbox/prices` multiplies the listed prices from now on.

use std::io;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::app::App;
use super::batch::BatchRecord;
use super::errors;
use super::reply::HttpReply;
use super::results::{finish_due, kept_paid};
use super::state_dir::{Folder, now_ms};
use super::stats::Bill;

/// The counters of this server, and every batch job of its state, even if another server made or ended it.
pub async fn stats(State(app): State<Arc<App>>) -> Response {
    let work = |app: &App| Ok(HttpReply::pretty(StatusCode::OK, &document(app)?));
    app.blocking(work).await.into_response()
}

/// Sets the price of what is answered or created from now on. The body is a whole number.
pub async fn set_prices(State(app): State<Arc<App>>, body: String) -> Response {
    let reply = match body.trim().parse() {
        Ok(times @ 1..=1000) => {
            app.set_price_times(times);
            HttpReply::json(StatusCode::OK, json!({"times": times}).to_string())
        }
        _ => errors::plain(StatusCode::BAD_REQUEST, "The price is a whole number of times, 1 to 1000"),
    };
    reply.into_response()
}

fn document(app: &App) -> io::Result<Value> {
    let _one = app.finishing();
    let now = now_ms();
    let mut jobs: Vec<BatchRecord> = app.store.all(Folder::Batches)?;
    jobs.sort_by(|a, b| (a.created_ms, &a.id).cmp(&(b.created_ms, &b.id)));
    // A job that ended unseen has its price all the same.
    finish_due(app, &mut jobs, now)?;
    let (mut batches, mut elsewhere, mut paid) = (Bill::default(), Bill::default(), Vec::new());
    for job in &jobs {
        let Some(result) = &job.result else { continue };
        batches.add(result.bill);
        if result.instance != app.instance {
            elsewhere.add(result.bill);
            if app.config.track {
                paid.extend(kept_paid(app, &job.id)?);
            }
        }
    }
    let shown = |job: &BatchRecord| {
        json!({
            "id": job.id,
            "input_file_id": job.input_file_id,
            "rows": job.rows,
            "status": job.status(now).name(),
        })
    };
    let mut seen = serde_json::to_value(app.stats.snapshot_with(elsewhere, &paid))?;
    seen["batches"] = json!({
        "created": jobs.len(),
        "bill": batches,
        "jobs": jobs.iter().map(shown).collect::<Vec<_>>(),
    });
    Ok(seen)
}
