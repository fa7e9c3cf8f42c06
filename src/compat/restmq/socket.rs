//! WebSocket: each message of the queue is a text frame. What the client sends comes back.

use std::iter::once;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;

use super::reader::Reader;
use crate::protocol::http::app::App;
use crate::protocol::http::extract::Name;
use crate::protocol::http::failure::Answer;
use crate::protocol::websocket::{End, Incoming, Socket, Upgrade};
use crate::wire::websocket::CloseCode;

pub async fn consume(
    State(app): State<Arc<App>>,
    Name(queue): Name,
    mut request: Request,
) -> Answer<Response> {
    let upgrade = Upgrade::new(&mut request, "websocket")?;
    // It reads the queue from now on, not from when the client has heard of it.
    let reader = Reader::join(app.clone(), queue).await?;
    let server = app.clone();
    Ok(upgrade.answer(&app, async move |socket| serve(server, socket, reader).await))
}

async fn serve(app: Arc<App>, mut socket: Socket, reader: Reader) {
    let end =
        converse(&mut socket, &reader).await.unwrap_or_else(|| match app.broker().check_open() {
            Ok(()) => End::Close(CloseCode::NORMAL, "the queue was purged, or you read too slowly"),
            Err(_) => End::Close(CloseCode::AWAY, "the server stops"),
        });
    // What was not written goes back before the peer is told of the end.
    drop(reader);
    socket.close(end).await;
}

/// Until one of both hangs up; `None` if that is this side.
async fn converse(socket: &mut Socket, reader: &Reader) -> Option<End> {
    loop {
        tokio::select! {
            object = reader.next() => {
                let object = object?;
                if socket.send(once(object.as_slice())).await < object.len() {
                    return Some(End::Gone);
                }
                reader.written();
            }
            said = socket.receive() => match said {
                Incoming::Text(text) => {
                    socket.send(once(text.as_bytes())).await;
                }
                Incoming::Binary(bytes) => socket.send_binary(&bytes).await,
                Incoming::End(end) => return Some(end),
            },
        }
    }
}
