use lyceum_graph::Worker;

const GRADE: Worker<String> = Worker::new("grade");

fn main() {
    let _ = GRADE.send(&7);
}
