//! str0m as WHIP publisher and WHEP viewer: `weir-peer-str0m publish|watch URL CODEC [AUDIO_PORT VIDEO_PORT]`.
//!
//! It has no codecs: it publishes the RTP that comes to the two UDP ports it names (`listening`), and hands what it
//! receives to the two ports of its arguments. It tells what it sees in the lines that tests/e2e/foreign.py reads.

use std::collections::HashMap;
use std::error::Error;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use str0m::change::SdpAnswer;
use str0m::media::{Direction, MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::RtpWrite;
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

static STOP: AtomicBool = AtomicBool::new(false);
const MTU: usize = 2000;
const TICK: Duration = Duration::from_millis(2); // how long one socket is waited for while others may have something

unsafe extern "C" {
    fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
}

extern "C" fn on_signal(_: i32) {
    STOP.store(true, Ordering::Relaxed);
}

fn tell(event: &str, rest: &str) {
    println!("{{\"event\": \"{event}\"{}{rest}}}", if rest.is_empty() { "" } else { ", " });
    let _ = std::io::stdout().flush();
}

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace(['\r', '\n'], " ")
}

/// One HTTP/1.1 request; the status, the head and the body.
fn http(method: &str, url: &str, body: &str) -> Result<(u16, String, String)> {
    let (host, path) = url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).ok_or("an http:// address")?;
    let mut stream = TcpStream::connect(host)?;
    write!(
        stream,
        "{method} /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("an HTTP answer")?;
    let status = head.split(' ').nth(1).ok_or("a status")?.parse()?;
    Ok((status, head.to_string(), body.to_string()))
}

fn location(head: &str, url: &str) -> Result<String> {
    let value = head
        .lines()
        .find_map(|line| line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("location")))
        .map(|(_, value)| value.trim())
        .ok_or("a Location header")?;
    if value.starts_with("http://") {
        return Ok(value.to_string());
    }
    let host = url.split('/').nth(2).ok_or("a host")?;
    Ok(format!("http://{host}{value}"))
}

fn config(codec: &str) -> RtcConfig {
    let config = RtcConfig::new().clear_codecs().enable_opus(true, false).set_rtp_mode(true);
    match codec {
        "vp8" => config.enable_vp8(true),
        "vp9" => config.enable_vp9(true),
        "av1" => config.enable_av1(true),
        _ => config.enable_h264(true),
    }
}

/// The RTP packet as it came, without header extensions.
fn plain(packet: &str0m::rtp::RtpPacket) -> Vec<u8> {
    let header = &packet.header;
    let mut out = vec![0x80, (header.marker as u8) << 7 | *header.payload_type];
    out.extend(header.sequence_number.to_be_bytes());
    out.extend(header.timestamp.to_be_bytes());
    out.extend((*header.ssrc).to_be_bytes());
    out.extend(packet.payload.iter());
    out
}

struct Session {
    rtc: Rtc,
    socket: UdpSocket,
    mids: HashMap<&'static str, Mid>,
    inputs: Vec<(&'static str, UdpSocket)>,
    output: UdpSocket,
    ports: HashMap<&'static str, String>,
    packets: HashMap<&'static str, u64>,
    requests: u64,
}

impl Session {
    fn kind(&self, mid: Mid) -> &'static str {
        if self.mids["audio"] == mid { "audio" } else { "video" }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Connected => tell("state", "\"state\": \"connected\""),
            Event::IceConnectionStateChange(state) => tell("state", &format!("\"state\": \"{state:?}\"")),
            Event::KeyframeRequest(_) => self.requests += 1,
            Event::RtpPacket(packet) => {
                let ssrc = packet.header.ssrc;
                let mid = self.rtc.direct_api().stream_rx(&ssrc).map(|stream| stream.mid());
                if let Some(mid) = mid {
                    let kind = self.kind(mid);
                    *self.packets.entry(kind).or_default() += 1;
                    if let Some(port) = self.ports.get(kind) {
                        let _ = self.output.send_to(&plain(&packet), format!("127.0.0.1:{port}"));
                    }
                }
            }
            _ => {}
        }
    }

    /// Send what is to be sent; returns when time has to move on at the latest.
    fn drain(&mut self) -> Result<Instant> {
        loop {
            match self.rtc.poll_output()? {
                Output::Timeout(at) => return Ok(at),
                Output::Transmit(packet) => {
                    let _ = self.socket.send_to(&packet.contents, packet.destination);
                }
                Output::Event(event) => self.event(event),
            }
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Result<()> {
        let Ok((size, source)) = self.socket.recv_from(buffer) else { return Ok(()) };
        let Ok(contents) = buffer[..size].try_into() else { return Ok(()) };
        let destination = self.socket.local_addr()?;
        let received = Receive { proto: Protocol::Udp, source, destination, contents };
        Ok(self.rtc.handle_input(Input::Receive(Instant::now(), received))?)
    }

    /// Publish one packet of each kind that waits. Sequence numbers are widened by counting: the test sends in order.
    fn publish(&mut self, buffer: &mut [u8]) {
        for k in 0..self.inputs.len() {
            let (kind, socket) = &self.inputs[k];
            while let Ok(size) = socket.recv(buffer) {
                let mid = self.mids[kind];
                let Some(pt) = self.rtc.media(mid).and_then(|media| media.remote_pts().first().copied()) else { return };
                let packets = self.packets.entry(kind).or_default();
                let time = u32::from_be_bytes([buffer[4], buffer[5], buffer[6], buffer[7]]);
                let write = RtpWrite::new(pt, (1000 + *packets).into(), time, Instant::now(), &buffer[12..size])
                    .marker(buffer[1] & 0x80 != 0)
                    .nackable(*kind == "video");
                if let Some(stream) = self.rtc.direct_api().stream_tx_by_mid(mid, None) {
                    *packets += 1;
                    stream.write_rtp(write);
                }
            }
        }
    }

    fn figures(&self) {
        let count = |kind| self.packets.get(kind).copied().unwrap_or(0);
        let video = format!("\"video\": {{\"packets\": {}, \"pli\": {}}}", count("video"), self.requests);
        tell("figures", &format!("{video}, \"audio\": {{\"packets\": {}}}", count("audio")));
    }

    fn run(&mut self) -> Result<()> {
        let (mut buffer, mut told) = (vec![0; MTU], Instant::now());
        while !STOP.load(Ordering::Relaxed) && self.rtc.is_alive() {
            self.drain()?;
            self.receive(&mut buffer)?;
            if self.rtc.is_connected() {
                self.publish(&mut buffer);
            }
            self.drain()?;
            self.rtc.handle_input(Input::Timeout(Instant::now()))?;
            if told.elapsed() > Duration::from_millis(500) {
                told = Instant::now();
                self.figures();
            }
        }
        Ok(())
    }
}

/// Sockets that take RTP of both kinds from the test.
fn inputs() -> Result<Vec<(&'static str, UdpSocket)>> {
    let mut found = vec![];
    for kind in ["audio", "video"] {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_nonblocking(true)?;
        found.push((kind, socket));
    }
    Ok(found)
}

fn main() -> Result<()> {
    unsafe { signal(15, on_signal) };
    let arguments: Vec<String> = std::env::args().collect();
    let [what, url, codec] = &arguments[1..4] else { return Err("publish|watch URL CODEC".into()) };
    let publishing = what == "publish";
    str0m::crypto::from_feature_flags().install_process_default();
    tell("version", &format!("\"text\": \"str0m {}\"", env!("STR0M_VERSION")));

    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(TICK))?;
    let mut rtc = config(codec).build(Instant::now());
    rtc.add_local_candidate(Candidate::host(socket.local_addr()?, "udp")?);
    let direction = if publishing { Direction::SendOnly } else { Direction::RecvOnly };
    let mut changes = rtc.sdp_api();
    let audio = changes.add_media(MediaKind::Audio, direction, None, None, None);
    let video = changes.add_media(MediaKind::Video, direction, None, None, None);
    let (offer, pending) = changes.apply().ok_or("an offer")?;
    let (status, head, body) = http("POST", url, &offer.to_sdp_string())?;
    if status != 201 {
        tell("refused", &format!("\"status\": {status}, \"text\": \"{}\"", quoted(&body)));
        return Err("refused".into());
    }
    tell("answered", "");
    rtc.sdp_api().accept_answer(pending, SdpAnswer::from_sdp_string(&body)?)?;

    let inputs = if publishing { inputs()? } else { vec![] };
    if publishing {
        let port = |k: usize| inputs[k].1.local_addr().map(|address| address.port()).unwrap_or(0);
        tell("listening", &format!("\"audio\": {}, \"video\": {}", port(0), port(1)));
    }
    let ports = ["audio", "video"].into_iter().zip(arguments[4..].iter().cloned()).collect();
    let output = UdpSocket::bind("127.0.0.1:0")?;
    let mids = HashMap::from([("audio", audio), ("video", video)]);
    let mut session =
        Session { rtc, socket, mids, inputs, output, ports, packets: HashMap::new(), requests: 0 };
    let ended = session.run();
    http("DELETE", &location(&head, url)?, "")?;
    ended
}
