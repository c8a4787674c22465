use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use super::*;

/// Class, promised percent, and what the tokenizer of Llama 3 makes of the text.
#[rustfmt::skip]
const KNOWN: &[(&str, u64, u64, &str)] = &[
    ("english", 3, 70, "The night train leaves at ten past nine and reaches the coast before breakfast. Bring a warm coat, because the heating in the last carriage has not worked since March, and nobody can say when it will be mended. If you miss it, there is a bus from the square behind the station, but it stops in every village on the way."),
    ("code", 3, 132, r"fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

#[test]
fn of_three() {
    assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0)); // sorted first
}
"),
    ("json", 3, 126, r#"{"orders":[{"id":10482,"customer":"Nadia Brandt","placed_at":"2026-03-14T08:21:55Z","lines":[{"sku":"KT-200-B","quantity":2,"unit_price":18.90},{"sku":"LM-7","quantity":1,"unit_price":249.00}],"shipped":false,"note":null},{"id":10483,"customer":"O. Lindqvist","placed_at":"2026-03-14T08:40:02Z","lines":[],"shipped":true,"note":"gift wrap \"blue\""}]}"#),
    ("german", 10, 89, "Der Nachtzug fährt um zehn nach neun ab und erreicht die Küste noch vor dem Frühstück. Nehmen Sie einen warmen Mantel mit, denn die Heizung im letzten Wagen ist seit März kaputt, und niemand weiß, wann sie repariert wird. Wer ihn verpasst, findet hinter dem Bahnhof einen Bus, der allerdings in jedem Dorf hält."),
    ("french", 10, 86, "Le train de nuit part à neuf heures dix et arrive sur la côte avant le petit déjeuner. Prenez un manteau chaud, car le chauffage de la dernière voiture ne marche plus depuis mars et personne ne sait quand il sera réparé. Si vous le manquez, un bus part de la place derrière la gare, mais il s'arrête dans chaque village."),
    ("italian", 10, 90, "Il treno notturno parte alle nove e dieci e arriva sulla costa prima di colazione. Portate un cappotto pesante, perché il riscaldamento dell'ultima carrozza non funziona più da marzo e nessuno sa quando sarà riparato. Se lo perdete, dalla piazza dietro la stazione parte un autobus, che però si ferma in ogni paese."),
    ("portuguese", 10, 88, "O comboio da noite parte às nove e dez e chega à costa antes do pequeno-almoço. Leve um casaco quente, porque o aquecimento da última carruagem não funciona desde março e ninguém sabe quando será reparado. Se o perder, há um autocarro na praça atrás da estação, mas ele para em todas as aldeias do caminho."),
    ("spanish", 10, 95, "El tren nocturno sale a las nueve y diez y llega a la costa antes del desayuno. Lleve un abrigo, porque la calefacción del último vagón no funciona desde marzo y nadie sabe cuándo la arreglarán. Si lo pierde, hay un autobús en la plaza que está detrás de la estación, pero se detiene en todos los pueblos del camino."),
    ("hindi", 10, 155, "रात की ट्रेन नौ बजकर दस मिनट पर चलती है और नाश्ते से पहले समुद्र के किनारे पहुँच जाती है। गरम कपड़े साथ ले जाइए, क्योंकि आख़िरी डिब्बे का हीटर मार्च से ख़राब है और किसी को नहीं पता कि वह कब ठीक होगा। अगर आपकी गाड़ी छूट जाए, तो स्टेशन के पीछे वाले चौक से एक बस मिलती है, लेकिन वह हर गाँव में रुकती है।"),
    ("thai", 10, 125, "รถไฟเที่ยวกลางคืนออกเวลาสามทุ่มสิบนาที และจะถึงชายทะเลก่อนเวลาอาหารเช้า ควรนำเสื้อกันหนาวไปด้วย เพราะเครื่องทำความร้อนในตู้สุดท้ายเสียมาตั้งแต่เดือนมีนาคม และไม่มีใครรู้ว่าจะซ่อมเสร็จเมื่อไร ถ้าคุณพลาดรถไฟ ยังมีรถประจำทางจากลานด้านหลังสถานี แต่รถจะจอดทุกหมู่บ้านระหว่างทาง"),
    ("chinese", 10, 126, "夜班火车九点十分发车,早餐之前就能到达海边。请带上一件厚外套,因为最后一节车厢的暖气从三月份起就坏了,没有人知道什么时候能修好。如果你错过了这趟火车,车站后面的广场上还有一班公共汽车,不过它在沿途的每个村子都要停。车票可以在车上买,也可以提前三天在网上预订,学生和老人可以享受半价优惠。"),
    ("arabic", 10, 108, "يغادر القطار الليلي في الساعة التاسعة وعشر دقائق ويصل إلى الساحل قبل موعد الفطور. احملوا معكم معطفا دافئا، لأن التدفئة في العربة الأخيرة معطلة منذ شهر مارس، ولا أحد يعرف متى سيتم إصلاحها. وإذا فاتكم القطار فهناك حافلة تنطلق من الساحة الواقعة خلف المحطة، لكنها تتوقف في كل قرية على الطريق."),
    ("greek", 10, 118, "Το νυχτερινό τρένο φεύγει στις εννέα και δέκα και φτάνει στην ακτή πριν από το πρωινό. Πάρτε μαζί σας ένα ζεστό παλτό, γιατί η θέρμανση στο τελευταίο βαγόνι δεν λειτουργεί από τον Μάρτιο και κανείς δεν ξέρει πότε θα επισκευαστεί. Αν το χάσετε, υπάρχει λεωφορείο από την πλατεία πίσω από τον σταθμό, αλλά σταματά σε κάθε χωριό."),
];

#[test]
fn every_class_is_within_its_promise() {
    for &(class, percent, tokens, text) in KNOWN {
        let estimated = Estimator::shared().text(text);
        assert!(estimated.abs_diff(tokens) * 100 <= tokens * percent, "{class}: {estimated} for {tokens}");
    }
}

#[test]
fn scripts_need_their_weights() {
    for &(class, percent, tokens, text) in KNOWN {
        let found: u64 = Estimator::shared().tally(text).raw().iter().map(|(_, tokens)| tokens).sum();
        if ["hindi", "thai", "greek"].contains(&class) {
            assert!(found.abs_diff(tokens) * 100 > tokens * percent, "{class}: {found} for {tokens}");
        } else if percent == 3 {
            assert_eq!(found, tokens, "{class}");
        }
    }
}

#[test]
fn short_texts_are_counted_as_llama_does() {
    for (text, tokens) in [
        ("", 0),
        ("a", 1),
        ("\n", 1),
        ("Hello, it's WE'LL 'sofa 12345 x\n\n  y \t z  ", 20),
        ("  \n \n\tfoo(bar);\r\n\r\n    baz", 8),
    ] {
        assert_eq!(Estimator::shared().text(text), tokens, "{text:?}");
    }
}

#[test]
fn what_is_no_text_takes_no_time() {
    // Without a bound on what is merged at once this would take minutes.
    let blob = "qZx".repeat(300_000);
    let started = Instant::now();
    let tokens = Estimator::shared().text(&blob);
    assert!((300_000..=900_000).contains(&tokens), "{tokens}");
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

#[test]
fn remembered_pieces_count_the_same() {
    let estimator = Estimator::shared();
    let first: Vec<u64> = KNOWN.iter().map(|known| estimator.text(known.3)).collect();
    let again: Vec<u64> = KNOWN.iter().map(|known| estimator.text(known.3)).collect();
    let alone = Estimator { classes: CharClasses::new(), vocabulary: Vocabulary::bundled(), weighed: true };
    assert_eq!(first, again);
    assert_eq!(first, KNOWN.iter().map(|known| alone.text(known.3)).collect::<Vec<_>>());
}

/// One line of `samples.jsonl`.
#[derive(serde::Deserialize)]
struct Sample {
    class: String,
    source: String,
    half: u8,
    text: String,
    tokens: u64,
}

/// Of sorted errors, the one that a share of them does not pass.
fn quantile(errors: &[f64], share: f64) -> f64 {
    errors[((errors.len() - 1) as f64 * share).round() as usize] * 100.0
}

/// Seconds that this thread has had a core: others may be using them too.
fn busy() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap() / 1e9
}

/// The body of a request with the sample as its prompt.
fn request(sample: &Sample) -> String {
    let content = serde_json::to_string(&sample.text).unwrap();
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":{content}}}]}}"#)
}

/// The error and speed by class and source, and what was counted, for the fit: `tests/tokens/measure.sh`.
#[test]
#[ignore = "needs the samples that tests/tokens/gather.py makes, and a release build"]
fn measure() {
    let work = std::env::var("TOKEN_SAMPLES").unwrap();
    let lines = std::fs::read_to_string(Path::new(&work).join("samples.jsonl")).unwrap();
    let samples: Vec<Sample> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let started = busy();
    let estimator = Estimator::shared();
    let loading = (busy() - started) * 1e3;
    let mut tallies =
        std::fs::File::create(Path::new(&work).join("tallies.jsonl")).map(std::io::BufWriter::new).unwrap();
    let mut found: BTreeMap<String, (Vec<f64>, u64)> = BTreeMap::new();
    for sample in &samples {
        let tally = estimator.tally(&sample.text);
        writeln!(tallies, "{}", serde_json::to_string(tally.raw()).unwrap()).unwrap();
        if sample.half == 1 {
            let error = (tally.tokens() as f64 / sample.tokens as f64 - 1.0).abs();
            for name in [sample.class.clone(), format!("{} {}", sample.class, sample.source)] {
                let (errors, bytes) = found.entry(name).or_default();
                errors.push(error);
                *bytes += sample.text.len() as u64;
            }
        }
    }
    let mut out = std::io::stdout().lock();
    let bodies: Vec<String> = samples.iter().map(request).collect();
    let started = busy();
    for body in &bodies {
        std::hint::black_box(estimator.request(body, true));
    }
    let speed = bodies.iter().map(String::len).sum::<usize>() as f64 / (busy() - started) / 1e6;
    writeln!(out, "requests of all classes: {speed:.0} MB/s").unwrap();
    writeln!(
        out,
        "loaded in {loading:.0} ms\n{:26} {:>7} {:>8} {:>8} {:>8} {:>8}",
        "class", "samples", "median %", "p95 %", "max %", "MB/s"
    )
    .unwrap();
    for (name, (mut errors, bytes)) in found {
        errors.sort_by(f64::total_cmp);
        let (class, source) = name.split_once(' ').unwrap_or((&name, ""));
        let texts = || {
            samples
                .iter()
                .filter(|one| one.half == 1 && one.class == class && (source.is_empty() || one.source == source))
        };
        let started = busy();
        let mut rounds = 0;
        while busy() - started < 0.04 {
            // As for texts never seen before.
            estimator.vocabulary.forget();
            texts().for_each(|one| _ = std::hint::black_box(estimator.text(&one.text)));
            rounds += 1;
        }
        let speed = (bytes * rounds) as f64 / (busy() - started) / 1e6;
        let (median, p95, max) = (quantile(&errors, 0.5), quantile(&errors, 0.95), quantile(&errors, 1.0));
        writeln!(out, "{name:26} {:7} {median:8.2} {p95:8.2} {max:8.2} {speed:8.0}", errors.len()).unwrap();
    }
}
