//! WebSocket: each message of the queue is a text frame. What the client sends comes back.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::{IntoResponse, Response};

use super::super::app::App;
use super::super::extract::Name;
use super::super::failure::{Answer, Failure};
use super::reader::Reader;
use crate::error::{Code, Error};
use crate::limits;

pub async fn consume(
    State(app): State<Arc<App>>,
    Name(queue): Name,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Answer<Response> {
    let most = app.config.max_message;
    let upgrade = upgrade.map_err(not_an_upgrade)?.max_message_size(most).max_frame_size(most);
    // It reads the queue from now on, not from when the client has heard of it.
    let reader = Reader::join(app, queue).await?;
    Ok(upgrade.on_upgrade(move |socket| serve(socket, reader)))
}

fn not_an_upgrade(rejection: WebSocketUpgradeRejection) -> Failure {
    let text = format!("this path is for WebSockets: {rejection}");
    let error = Error::new(Code::BadField, text);
    Failure { status: rejection.into_response().status(), error }
}

async fn serve(mut socket: WebSocket, reader: Reader) {
    // An error says that the client has gone: what was not written goes back with the reader.
    if converse(&mut socket, &reader).await.is_err() {
        return;
    }
    // It hears that this is the end, and says so too.
    let ends = async { while let Some(Ok(_)) = socket.recv().await {} };
    let _ = tokio::time::timeout(limits::LINGER, ends).await;
}

/// Until one of both hangs up.
async fn converse(socket: &mut WebSocket, reader: &Reader) -> Result<(), axum::Error> {
    loop {
        tokio::select! {
            object = reader.next() => {
                let Some(object) = object else { return socket.send(Message::Close(None)).await };
                let object = String::from_utf8_lossy(&object).into_owned();
                socket.send(Message::text(object)).await?;
                reader.written();
            }
            said = socket.recv() => match said.transpose()? {
                Some(said @ (Message::Text(_) | Message::Binary(_))) => socket.send(said).await?,
                // A close and a ping are answered by themselves.
                Some(_) => {}
                None => return Ok(()),
            }
        }
    }
}
