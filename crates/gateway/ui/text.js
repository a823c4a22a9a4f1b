// The page's words, and examples to start from, in both languages.

export const TEXT = {
  en: {
    skip: "Skip to your explanation", fresh: "New conversation", lesson: "Lesson",
    lead: "Teach me something.",
    how: "Explain a topic in your own words. I only know what you tell me, and I ask about what is missing.",
    topic: "Topic", explanation: "Your explanation", reply: "Your answer", hint: "Ctrl + Enter sends", stop: "Stop", send: "Teach",
    gaps: "What is missing", nogaps: "Gaps in your explanation appear here.", clear: "No gap found this time.",
    retry: "Try again", api: "API", you: "You", student: "Student", ideas: "Examples", offline: "offline student, no model",
    thinking: "The student is thinking…", user_input_handler: "Listening…", gap_identifier: "Looking for gaps…", question_generator: "Asking…",
    queued: (place, wait) => `Waiting for the model: place ${place}${wait ? `, about ${wait} s` : ""}`,
    used: "Looked up: ", stopped: "(stopped)", partly: (what) => `Not available just now: ${what}`,
    lost: "The connection to the server was lost.", cut: "The answer was cut off.", failed: (status) => `The server answered with status ${status}.`,
    confirm: "Start a new conversation? This one disappears from this page.",
    kinds: {
      contradiction: "Contradiction", circular_definition: "Circular definition", missing_mechanism: "How does it work?", missing_step: "Missing step",
      undefined_term: "Undefined term", unsupported_claim: "Unsupported claim", over_generalisation: "Over-generalisation", boundary_case: "Where does it end?",
      broken_analogy: "Analogy", missing_example: "Example missing", vague_word: "Vague",
    },
    examples: [
      ["Photosynthesis", "Plants use sunlight to make food. The chlorophyll somehow turns light into energy, so the plant always grows."],
      ["Compound interest", "When you save money the bank pays you interest, and then you get interest on the interest, therefore the money grows exponentially."],
    ],
  },
  zh: {
    skip: "跳到你的讲解", fresh: "新的对话", lesson: "课堂",
    lead: "教我点什么吧。",
    how: "用你自己的话讲一个主题。我只知道你告诉我的内容，缺什么我就问什么。",
    topic: "主题", explanation: "你的讲解", reply: "你的回答", hint: "Ctrl + Enter 发送", stop: "停止", send: "讲给我听",
    gaps: "还缺什么", nogaps: "讲解中的漏洞会显示在这里。", clear: "这次没有发现漏洞。",
    retry: "重试", api: "接口文档", you: "你", student: "学生", ideas: "例子", offline: "离线学生，没有模型",
    thinking: "学生正在思考……", user_input_handler: "正在听……", gap_identifier: "正在找漏洞……", question_generator: "正在提问……",
    queued: (place, wait) => `正在等待模型：第 ${place} 位${wait ? `，大约 ${wait} 秒` : ""}`,
    used: "查过：", stopped: "（已停止）", partly: (what) => `暂时不可用：${what}`,
    lost: "与服务器的连接断开了。", cut: "回答中断了。", failed: (status) => `服务器返回了状态 ${status}。`,
    confirm: "要开始新的对话吗？当前对话会从这个页面消失。",
    kinds: {
      contradiction: "前后矛盾", circular_definition: "循环定义", missing_mechanism: "怎么做到的？", missing_step: "少了一步",
      undefined_term: "没有解释的术语", unsupported_claim: "没有依据", over_generalisation: "说得太绝对", boundary_case: "边界在哪里？",
      broken_analogy: "比喻", missing_example: "缺少例子", vague_word: "说得含糊",
    },
    examples: [
      ["光合作用", "植物利用阳光制造食物。叶绿素以某种方式把光变成能量，所以植物总是会生长。"],
      ["复利", "把钱存进银行会有利息，利息又会产生利息，因此钱会指数增长。"],
    ],
  },
};
