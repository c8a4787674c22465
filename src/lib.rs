//! llbatch

pub mod api;
pub mod cli;
pub mod context;
pub mod error;
pub mod input;
pub mod outcome;
pub mod output;
pub mod pipeline;
pub mod plan;
pub mod price;
pub mod realtime;
pub mod request;
pub mod sandbox;
pub mod settings;
pub mod store;
pub mod summary;
pub mod tokens;
pub mod ui;
