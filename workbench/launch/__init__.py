"""From the draft on the Train page to queued jobs: form, plan, trial run and submission. Imports without torch."""
