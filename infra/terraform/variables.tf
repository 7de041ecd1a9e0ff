variable "project" {
  description = "Project id, such as my-project (not its number)."
  type        = string
}

variable "region" {
  description = "Region of the bucket, the registry and the workers, such as europe-west4. One for all: data that leaves a region is billed."
  type        = string
}

variable "bucket" {
  description = "Name of the bucket for shards, runs and temporaries; unique in all of Google Cloud."
  type        = string
}

variable "temporary_days" {
  description = "Days after which what lies under temp/ and staging/ is removed."
  type        = number
  default     = 14

  validation {
    condition     = var.temporary_days >= 8
    error_message = "A job may run for days and reads what it staged until its end: 8 days at least."
  }
}

variable "launchers" {
  description = "Who may start runs as the launcher's account, such as [\"user:me@example.com\"]."
  type        = list(string)
  default     = []
}
