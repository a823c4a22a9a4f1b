//! throw-away
use lyceum_agents::offline::{*, evaluation::*};
#[test]
fn figures() {
    let Ok(sets) = std::env::var("SETS") else { return };
    for set in sets.split(',') {
        let cases = load(std::path::Path::new(set)).unwrap();
        for l in ["all", "en", "zh"] {
            let r = evaluate(cases.iter().filter(|c| l == "all" || c.language == l));
            println!("{set} {l}: hit {:.3} of {} fa {:.2} of {} quote {:.3} leaks {} dup {} misq {} asked {}", r.hit_rate(), r.planted, r.false_alarms_per_clean_text(), r.clean, r.quote_rate(), r.leaks, r.duplicates, r.misquotes, r.asked);
            for (k, c) in &r.kinds { print!(" {} {}/{} ({})", k.as_str(), c.hits, c.planted, c.false_alarms); }
            println!();
        }
    }
    let unit = std::fs::read_to_string(sets.split(',').next().unwrap().to_owned() + "/a.jsonl").unwrap_or_default();
    let _ = unit;
    for (n, t) in [("en", "The enzyme catalase quickly turns peroxide into water, so 3 cells survive. It is like a tiny factory, because it always works. "), ("zh", "酶把过氧化氢变成水，因此细胞不会增加损伤，温度升高活性下降。它就像一个小工厂，总是在工作。")] {
        let text = t.repeat(10_000 / t.len());
        let l = Lecture { topic: "enzymes", text: &text, earlier: &[], recalled: &[] };
        let _ = analyse(&l);
        let s = std::time::Instant::now();
        for _ in 0..20 { let _ = analyse(&l); }
        println!("{n} 10KB {:?}", s.elapsed() / 20);
    }
}
