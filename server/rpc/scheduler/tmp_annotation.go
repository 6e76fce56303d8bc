package scheduler

const schedulerAnnotation = "fairlead.dev/scheduler"
