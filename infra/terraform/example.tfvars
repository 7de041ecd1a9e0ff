project   = "my-project"
region    = "europe-west4"
bucket    = "my-project-onceseen"
launchers = ["user:me@example.com"]
