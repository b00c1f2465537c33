package bits

// Explanation says in sentences what a job does or waits for.
type Explanation struct {
	Job     Summary  `json:"job"`
	Reasons []Reason `json:"reasons" doc:"The most important one first"`
}

// Reason is one thing that a job does or waits for, and what would change it.
type Reason struct {
	Why  string `json:"why" doc:"A sentence"`
	Help string `json:"help,omitempty" doc:"A sentence: what would make the job move, or move faster; empty if nothing has to be done"`
}
