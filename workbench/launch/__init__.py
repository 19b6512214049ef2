"""From a draft to queued jobs: forms, plans, trials, submission, and jobs in words. No torch."""
