"""The questions by name, in the order of the README."""

from benchmarks import (
    accuracy,
    cold_start,
    compile_time,
    cores,
    devices,
    large_networks,
    leaping,
    memory,
    save_points,
    scaling_patients,
    scaling_reactions,
    throughput,
)
from benchmarks.question import Question

QUESTIONS: dict[str, Question] = {
    module.QUESTION.name: module.QUESTION
    for module in (
        throughput,
        scaling_patients,
        scaling_reactions,
        large_networks,
        save_points,
        cores,
        devices,
        compile_time,
        cold_start,
        memory,
        leaping,
        accuracy,
    )
}
