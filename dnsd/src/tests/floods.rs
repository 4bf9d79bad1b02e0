//! Clients that ask too much, or nonsense: they bear it themselves.

use tokio::net::TcpSocket;

use super::*;

/// A client with an address of its own on loopback.
async fn client(address: [u8; 4]) -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::from(address), 0)).await.expect("a port")
}

async fn ask_from(client: &UdpSocket, server: SocketAddr, question: &Message) -> Message {
    // What a flood crowds out of a socket's buffer is asked again, as every resolver does.
    for _ in 0..20 {
        client.send_to(&question.to_vec().expect("encoded"), server).await.expect("sent");
        let mut bytes = [0; 4096];
        if let Ok(length) = tokio::time::timeout(Duration::from_secs(1), client.recv(&mut bytes)).await {
            return Message::from_vec(&bytes[..length.expect("received")]).expect("well formed");
        }
    }
    panic!("no answer to {question:?}");
}

// N-072
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_questions_takes_its_share_and_everyone_else_goes_on() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let server = start_with(
        vec![silent.local_addr().expect("bound")],
        vec![("corp", upstream_saying([192, 0, 2, 2]).await.address)],
    )
    .await;
    let (greedy, modest) = tokio::join!(client([127, 0, 0, 11]), client([127, 0, 0, 12]));
    let mut refused: u32 = 0;
    let mut bytes = [0; 4096];
    for number in 0..4000 {
        let name = format!("n{number}.example.");
        let message = question(&name, RecordType::A).to_vec().expect("encoded");
        greedy.send_to(&message, server.address).await.expect("sent");
        while let Ok(length) = greedy.try_recv(&mut bytes) {
            let answer = Message::from_vec(&bytes[..length]).expect("well formed");
            match answer.metadata.response_code {
                ResponseCode::Refused => refused += 1,
                // One that was passed on, and to which the upstream has been silent for long enough.
                code => assert_eq!(code, ResponseCode::ServFail),
            }
        }
        if number % 400 == 399 {
            // The flood goes on; meanwhile the other client has answers, also from upstreams that answer.
            let corp = ask_from(&modest, server.address, &question(&format!("n{number}.corp."), RecordType::A)).await;
            assert_eq!(addresses(&corp), [Ipv4Addr::new(192, 0, 2, 2)]);
            let own = question("web.default.svc.cluster.local.", RecordType::A);
            assert_eq!(ask_from(&modest, server.address, &own).await.answers.len(), 1);
        }
    }
    // Places come free again when an upstream has been silent for long enough: on a slow machine more of them are asked.
    assert!(refused > 0 && server.count(Count::Busy) >= 500, "{refused} refusals were seen");
}

#[tokio::test]
async fn connections_are_limited_and_each_client_gets_some() {
    let server = start(vec![]).await;
    let connect = |from: [u8; 4]| {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((Ipv4Addr::from(from), 0).into()).expect("a port");
        socket.connect(server.address)
    };
    let mut open = Vec::new();
    for _ in 0..300 {
        open.push(connect([127, 0, 0, 11]).await.expect("connected"));
    }
    let mut closed = 0;
    for stream in &mut open[256..] {
        let end = tokio::time::timeout(PATIENCE, stream.read(&mut [0])).await.expect("in time");
        closed += usize::from(!matches!(end, Ok(1..)));
    }
    assert_eq!((closed, server.count(Count::TcpRefused)), (44, 44));
    let mut other = connect([127, 0, 0, 12]).await.expect("connected");
    let bytes = question("web.default.svc.cluster.local.", RecordType::A).to_vec().expect("encoded");
    other.write_u16(u16::try_from(bytes.len()).expect("short")).await.expect("sent");
    other.write_all(&bytes).await.expect("sent");
    assert!(tokio::time::timeout(PATIENCE, other.read_u16()).await.expect("in time").expect("an answer") > 12);
}

// N-070
#[tokio::test]
async fn connections_that_are_idle_in_any_way_are_closed() {
    let server = start(vec![]).await;
    let bytes = question("many.default.svc.cluster.local.", RecordType::A).to_vec().expect("encoded");
    let mut framed = u16::try_from(bytes.len()).expect("short").to_be_bytes().to_vec();
    framed.extend(bytes);
    let began = std::time::Instant::now();
    // One that has its answer and asks nothing more, and one that stops in the middle of a question.
    let quiet = |send: Vec<u8>| async move {
        let mut stream = TcpStream::connect(server.address).await.expect("connected");
        stream.write_all(&send).await.expect("sent");
        stream.read_to_end(&mut Vec::new()).await.expect("an end")
    };
    // One that asks for ever and reads nothing.
    let deaf = async {
        let mut stream = TcpStream::connect(server.address).await.expect("connected");
        while stream.write_all(&framed).await.is_ok() {}
    };
    let all = async { tokio::join!(quiet(framed.clone()), quiet(framed[..5].to_vec()), deaf) };
    let (answer, nothing, ()) = tokio::time::timeout(PATIENCE, all).await.expect("closed in time");
    assert!(answer > 1000 && nothing == 0, "{answer} and {nothing} bytes");
    assert!(began.elapsed() >= Duration::from_secs(9), "{:?}", began.elapsed());
}

// N-068
#[tokio::test]
async fn nonsense_is_counted_and_changes_nothing_for_others() {
    let server = start(vec![]).await;
    let good = question("web.default.svc.cluster.local.", RecordType::A);
    let bytes = good.to_vec().expect("encoded");
    let mut response = bytes.clone();
    response[2] |= 0x80;
    let socket = client([127, 0, 0, 13]).await;
    let cuts = (0..bytes.len()).map(|length| bytes[..length].to_vec());
    for message in cuts.chain([response, vec![0xff; 600], vec![0; 600]]) {
        socket.send_to(&message, server.address).await.expect("sent");
    }
    // In order: when this one is answered the others have been read.
    let mut last = good.clone();
    last.metadata.id = 99;
    socket.send_to(&last.to_vec().expect("encoded"), server.address).await.expect("sent");
    let mut codes = Vec::new();
    loop {
        let mut answer = [0; 4096];
        let length =
            tokio::time::timeout(PATIENCE, socket.recv(&mut answer)).await.expect("in time").expect("received");
        let answer = Message::from_vec(&answer[..length]).expect("well formed");
        if answer.metadata.id == 99 {
            assert_eq!(answer.answers.len(), 1);
            break;
        }
        codes.push(answer.metadata.response_code);
    }
    assert!(codes.iter().all(|code| *code == ResponseCode::FormErr), "{codes:?}");
    // Shorter than a header; one that is an answer already, and one that says so by its ones.
    assert_eq!((server.count(Count::IgnoredShort), server.count(Count::IgnoredResponse)), (12, 2));
    assert_eq!(server.count(Count::FormErr), u64::try_from(codes.len()).expect("few"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_what_is_answered_at_once_leaves_others_their_answers() {
    let server = start(vec![]).await;
    let own = question("nobody.default.svc.cluster.local.", RecordType::A);
    let flood = std::net::UdpSocket::bind("127.0.0.14:0").expect("a port");
    let (bytes, address) = (own.to_vec().expect("encoded"), server.address);
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    // It never reads an answer, and never pauses.
    let flooding = std::thread::spawn(move || {
        while !stopped.is_cancelled() {
            let _ = flood.send_to(&bytes, address);
        }
    });
    let modest = client([127, 0, 0, 15]).await;
    let began = std::time::Instant::now();
    let mut asked = 0;
    // On a busy machine the flood begins late.
    while asked < 50 || server.count(Count::Flooded) == 0 {
        assert!(began.elapsed() < PATIENCE, "what is too much is dropped and counted");
        let web = question("web.default.svc.cluster.local.", RecordType::A);
        assert_eq!(ask_from(&modest, server.address, &web).await.answers.len(), 1);
        asked += 1;
    }
    stop.cancel();
    flooding.join().expect("no panic");
}
