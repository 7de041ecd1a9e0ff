output "images" {
  description = "Prefix of the images' names; what stands for REGION-docker.pkg.dev/PROJECT/onceseen in the profiles."
  value       = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}"
}

output "flags" {
  description = "Beam options of every run."
  value = join(" ", [
    "--project=${var.project}",
    "--region=${var.region}",
    "--temp_location=gs://${google_storage_bucket.data.name}/temp",
    "--service_account_email=${google_service_account.account["worker"].email}",
  ])
}

output "launcher" {
  description = "Account that a launcher in the cloud runs as."
  value       = google_service_account.account["launcher"].email
}
