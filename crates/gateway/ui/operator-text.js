// The operator's page's words, in both languages.

export const TEXT = {
  en: {
    title: "Lyceum – operator", skip: "Skip to the figures", pause: "Pause", retry: "Try again", lesson: "The lesson", api: "API",
    maintenance: "Maintenance", turnOn: "Begin maintenance? New work is refused until it ends; what is under way goes on.", turnOff: "End maintenance? New work is taken again.",
    closed: "Maintenance: new work is refused.", degraded: "Not as it should be:", loading: "One moment…", stale: (seconds) => `The figures are ${seconds} s old.`,
    lost: "The server is not reached. Trying again…", cut: "The answer was cut off.", failed: (status) => `The server answered with status ${status}.`, noKey: "The figures need a key of the scope operator.",
    queues: "Queues", breakers: "Breakers", caches: "Caches", errors: "Recent errors", none: "None.",
    uptime: "Up for", load: "Load average", streams: "Streams", line: "In line for a stream", active: "Requests under way", rate: "Requests a second", average: "Average answer", p95: "95 % are faster than", failures: "Errors", cost: "Cost today", held: "Cost of calls under way",
    waiting: "Waiting", flight: "Under way", oldest: "The oldest waits for", priority: "Priority", priorities: { high: "high", normal: "normal", low: "low" },
    shareOf: (percent) => `only ${percent} % of the quota is used, after refusals by the provider`, paused: (time) => `paused by the provider for ${time}`, alone: "The shared store is not reached: this process keeps the quota alone.",
    quotaLabel: (kind, queue) => `${kind} of ${queue}`, quotas: { requests: "requests a minute", tokens: "tokens a minute", input_tokens: "input tokens a minute", output_tokens: "output tokens a minute" },
    name: "Name", state: "State", states: { closed: "closed: all is well", open: "open: not asked", half_open: "half open: tried again" }, hits: "Hits", misses: "Misses", share: "Hit rate",
    at: "When", endpoint: "Endpoint", status: "Status", request: "Request", unknown: "–",
  },
  zh: {
    title: "Lyceum – 运维", skip: "跳到数据", pause: "暂停", retry: "重试", lesson: "课堂", api: "接口文档",
    maintenance: "维护模式", turnOn: "要开始维护吗？结束之前会拒绝新的工作，进行中的工作会继续。", turnOff: "要结束维护吗？之后会重新接受工作。",
    closed: "维护模式：拒绝新的工作。", degraded: "不正常的部分：", loading: "请稍候……", stale: (seconds) => `数据是 ${seconds} 秒以前的。`,
    lost: "无法连接到服务器，正在重试……", cut: "回答中断了。", failed: (status) => `服务器返回了状态 ${status}。`, noKey: "查看数据需要 operator 范围的密钥。",
    queues: "队列", breakers: "熔断器", caches: "缓存", errors: "最近的错误", none: "无。",
    uptime: "已运行", load: "平均负载", streams: "流", line: "排队等流", active: "进行中的请求", rate: "每秒请求", average: "平均回答时间", p95: "95 % 快于", failures: "错误", cost: "今日费用", held: "进行中调用的费用",
    waiting: "等待", flight: "进行中", oldest: "最久的已等待", priority: "优先级", priorities: { high: "高", normal: "普通", low: "低" },
    shareOf: (percent) => `提供商拒绝之后，只使用 ${percent} % 的配额`, paused: (time) => `提供商要求暂停 ${time}`, alone: "无法连接共享存储：此进程独自计算配额。",
    quotaLabel: (kind, queue) => `${queue} 的${kind}`, quotas: { requests: "每分钟请求", tokens: "每分钟 token", input_tokens: "每分钟输入 token", output_tokens: "每分钟输出 token" },
    name: "名称", state: "状态", states: { closed: "关闭：正常", open: "打开：不再请求", half_open: "半开：重新尝试" }, hits: "命中", misses: "未命中", share: "命中率",
    at: "时间", endpoint: "端点", status: "状态", request: "请求", unknown: "–",
  },
};
