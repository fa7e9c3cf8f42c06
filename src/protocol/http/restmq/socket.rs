//! WebSocket: each message of the queue is a text frame. What the client sends comes back.

use std::iter::once;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;

use super::super::app::App;
use super::super::extract::Name;
use super::super::failure::Answer;
use super::super::websocket::{End, Incoming, Socket, Upgrade};
use super::reader::Reader;
use crate::protocol::websocket::CloseCode;

pub async fn consume(
    State(app): State<Arc<App>>,
    Name(queue): Name,
    mut request: Request,
) -> Answer<Response> {
    let upgrade = Upgrade::new(&mut request, "websocket")?;
    // It reads the queue from now on, not from when the client has heard of it.
    let reader = Reader::join(app.clone(), queue).await?;
    Ok(upgrade.answer(&app, async move |socket| serve(socket, reader).await))
}

async fn serve(mut socket: Socket, reader: Reader) {
    let end = converse(&mut socket, &reader).await;
    // What was not written goes back before the peer is told of the end.
    drop(reader);
    socket.close(end).await;
}

/// Until one of both hangs up.
async fn converse(socket: &mut Socket, reader: &Reader) -> End {
    loop {
        tokio::select! {
            object = reader.next() => {
                let Some(object) = object else { return End::Close(CloseCode::NORMAL, "") };
                if socket.send(once(object.as_slice())).await < object.len() {
                    return End::Gone;
                }
                reader.written();
            }
            said = socket.receive() => match said {
                Incoming::Text(text) => {
                    socket.send(once(text.as_bytes())).await;
                }
                Incoming::Binary(bytes) => socket.send_binary(&bytes).await,
                Incoming::End(end) => return end,
            },
        }
    }
}
