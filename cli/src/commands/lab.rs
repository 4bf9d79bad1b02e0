//! `lab`: the course. A page to read, something to do, and checks that look at what really is.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::api::LabApi;
use crate::args::{CourseArgs, CourseCommand, LabArgs};
use crate::course::{self, Lesson, Scene, State, Verdict};
use crate::error::CliError;
use crate::home::LabHome;
use crate::output::{self, Table};

/// What was just changed may take a moment until it shows.
const MOMENT: Duration = Duration::from_secs(2);

/// How long a solution may take until everything is as it must be.
const SOLVED_WITHIN: Duration = Duration::from_secs(60);

/// Runs one of the subcommands. `check` ends with 1 while something is still wrong.
///
/// # Errors
/// When there is no such lesson, or no lab runs.
pub(crate) async fn lab(args: &CourseArgs) -> Result<ExitCode, CliError> {
    let done = |()| ExitCode::SUCCESS;
    match &args.command {
        CourseCommand::List(args) => list(args).await.map(done),
        CourseCommand::Start { lab, lesson } => start(&scene(lab, Some(lesson)).await?).await.map(done),
        CourseCommand::Read { lab, lesson } => output::print(scene(lab, lesson.as_deref()).await?.1.page()).map(done),
        CourseCommand::Check { lab, lesson } => check(&scene(lab, lesson.as_deref()).await?).await,
        CourseCommand::Hint { lab, lesson } => hint(&scene(lab, lesson.as_deref()).await?).await.map(done),
        CourseCommand::Solve { lab, lesson } => solve(&scene(lab, lesson.as_deref()).await?).await.map(done),
        CourseCommand::Reset { lab, lesson } => reset(&scene(lab, lesson.as_deref()).await?).await.map(done),
    }
}

/// The lesson that is meant, the one started last if none is named, in the lab where it happens.
async fn scene(lab: &LabArgs, word: Option<&str>) -> Result<(Scene, Lesson), CliError> {
    let home = LabHome::of(lab)?;
    let lesson = match word {
        Some(word) => course::find(word)?,
        None => course::latest(&LabApi::of(&home)?).await?,
    };
    let scene = Scene::of(home, lesson.namespace()).await?;
    Ok((scene, lesson))
}

async fn list(args: &LabArgs) -> Result<(), CliError> {
    let home = LabHome::of(args)?;
    // Without a lab there is a course all the same, and nothing done in it.
    let api = home.running().map(|_| LabApi::of(&home)).transpose()?;
    let mut table = Table::new(&["LESSON", "NAME", "NODES", "STATE", "TITLE"]);
    for lesson in course::lessons()? {
        let state = match &api {
            Some(api) => course::state_of(api, &lesson).await?,
            None => State::New,
        };
        let state = match state {
            State::New => "-",
            State::Started { .. } => "started",
            State::Done => "done",
        };
        let nodes = lesson.plan.nodes.to_string();
        table.push(vec![lesson.number.to_string(), lesson.name.to_owned(), nodes, state.to_owned(), lesson.plan.title]);
    }
    output::print(&table.render_all())?;
    if api.is_none() {
        eprintln!("No lab runs. Start one with room for all lessons: minisvc up --nodes 3");
    }
    Ok(())
}

async fn start((scene, lesson): &(Scene, Lesson)) -> Result<(), CliError> {
    if course::state_of(&scene.api, lesson).await? == State::New {
        course::start(scene, lesson).await?;
    }
    output::print(lesson.page())
}

async fn check((scene, lesson): &(Scene, Lesson)) -> Result<ExitCode, CliError> {
    require_started(scene, lesson).await?;
    let verdicts = check_within(scene, lesson, MOMENT).await;
    let mut text = String::new();
    for verdict in &verdicts {
        text += &match &verdict.wrong {
            None => format!("✓ {}\n", verdict.what),
            Some(wrong) => format!("✗ {}\n    {wrong}\n", verdict.what),
        };
    }
    output::print(&text)?;
    let left = verdicts.iter().filter(|verdict| verdict.wrong.is_some()).count();
    if left > 0 {
        eprintln!("{left} of {} to go. Stuck? minisvc lab hint {}", verdicts.len(), lesson.number);
        return Ok(ExitCode::FAILURE);
    }
    State::done(&scene.api, lesson).await?;
    let next = lesson.number + 1;
    match course::find(&next.to_string()) {
        Ok(_) => eprintln!("Done. Go on: minisvc lab start {next}"),
        Err(_) => eprintln!("Done. That was the last lesson."),
    }
    Ok(ExitCode::SUCCESS)
}

/// Checks until everything holds or the time is over; the last look counts.
async fn check_within(scene: &Scene, lesson: &Lesson, within: Duration) -> Vec<Verdict> {
    let deadline = Instant::now() + within;
    loop {
        let verdicts = course::check(scene, lesson).await;
        if verdicts.iter().all(|verdict| verdict.wrong.is_none()) || Instant::now() > deadline {
            return verdicts;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

async fn require_started(scene: &Scene, lesson: &Lesson) -> Result<State, CliError> {
    match course::state_of(&scene.api, lesson).await? {
        State::New => Err(CliError::usage(format!("lesson {} was not started", lesson.number))
            .hint(format!("start it: minisvc lab start {}", lesson.number))),
        state => Ok(state),
    }
}

async fn hint((scene, lesson): &(Scene, Lesson)) -> Result<(), CliError> {
    let given = match require_started(scene, lesson).await? {
        State::Started { hints } => hints,
        State::New | State::Done => 0,
    };
    let hints = &lesson.plan.hints;
    // The last one is said again and again.
    let position = given.min(hints.len().saturating_sub(1));
    State::hinted(&scene.api, lesson, position + 1).await?;
    let text = hints.get(position).map(String::as_str).unwrap_or_default();
    output::print(&format!("Hint {} of {}: {}\n", position + 1, hints.len(), text.trim_end()))?;
    if position + 1 == hints.len() {
        eprintln!("That was the last one. See it done: minisvc lab solve {}", lesson.number);
    }
    Ok(())
}

async fn solve((scene, lesson): &(Scene, Lesson)) -> Result<(), CliError> {
    require_started(scene, lesson).await?;
    course::solve(scene, lesson, |line| output::print(&format!("$ {line}\n"))).await?;
    let verdicts = check_within(scene, lesson, SOLVED_WITHIN).await;
    match verdicts.into_iter().find_map(|verdict| verdict.wrong) {
        None => {
            State::done(&scene.api, lesson).await?;
            eprintln!("Solved. Do it yourself: minisvc lab reset {}", lesson.number);
            Ok(())
        }
        Some(wrong) => Err(CliError::failed("the solution was applied, but something is still wrong").because(wrong)),
    }
}

async fn reset((scene, lesson): &(Scene, Lesson)) -> Result<(), CliError> {
    course::remove(scene, lesson).await?;
    course::start(scene, lesson).await?;
    eprintln!("Lesson {} is as it was. Read it again: minisvc lab read {}", lesson.number, lesson.number);
    Ok(())
}
